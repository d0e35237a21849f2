// Kube-servers holds the servers of one Kubernetes release in one binary. Its main file fits every release; what it is built
// from stands in the file that is given with -modfile. The program is chosen by the name it is called by, or else by the
// first argument.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          func() *cobra.Command { return apiserver.NewAPIServerCommand() },
	"kube-controller-manager": func() *cobra.Command { return controllers.NewControllerManagerCommand() },
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 kubeletCommand,
}

// kubeletCommand is the kubelet's command, which newer releases make with a context.
func kubeletCommand() *cobra.Command {
	switch create := any(kubelet.NewKubeletCommand).(type) {
	case func() *cobra.Command:
		return create()
	case func(context.Context) *cobra.Command:
		return create(context.Background())
	default:
		panic(fmt.Sprintf("the kubelet's command is made by a %T", create))
	}
}

func main() {
	name := filepath.Base(os.Args[0])
	if programs[name] == nil && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	command := programs[name]
	if command == nil {
		fmt.Fprintf(os.Stderr, "kube-servers: no program %q in here: link this file under a program's name, or give it first\n", name)
		os.Exit(2)
	}
	pflag.CommandLine.SetNormalizeFunc(flag.WordSepNormalizeFunc)
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
