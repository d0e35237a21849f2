// The lab's fake of DataWorkflowServices' manager: controller and webhook in one program, told apart by --mode.
//
// It is not DataWorkflowServices, and stores no data. Its flags, ports, lease, webhook paths and objects are those of the
// true manager, so that manifests written for one start the other.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"lab/dws/admission"
	"lab/dws/api"
	"lab/dws/control"
)

func main() {
	mode := flag.String("mode", "controller", "what to be: controller or webhook")
	metrics := flag.String("metrics-bind-address", ":8080", "where metrics are served")
	probes := flag.String("health-probe-bind-address", ":8081", "where healthz and readyz are served")
	port := flag.Int("webhook-port", 9443, "the port on which the webhook answers")
	elect := flag.Bool("leader-elect", false, "whether only the holder of the lease works")
	logging := zap.Options{Development: true}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))

	// Longer than by default (15 and 10 s), since a whole site shares one machine: who can't renew it in time ends.
	lease, renewal := 30*time.Second, 25*time.Second
	if err := run(*mode, ctrl.Options{
		Scheme:                 scheme(),
		Metrics:                metricsserver.Options{BindAddress: *metrics},
		HealthProbeBindAddress: *probes,
		WebhookServer:          webhook.NewServer(webhook.Options{Port: *port}),
		LeaderElection:         *elect,
		LeaderElectionID:       "a08857a2.dataworkflowservices.github.io",
		// Whoever is stopped gives it up: the next one need not wait until it has run out.
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renewal,
		LeaderElectionReleaseOnCancel: true,
	}); err != nil {
		ctrl.Log.WithName("setup").Error(err, "the manager ends")
		os.Exit(1)
	}
}

func scheme() *runtime.Scheme {
	known := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(known))
	utilruntime.Must(api.AddToScheme(known))
	return known
}

func run(mode string, options ctrl.Options) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, options)
	if err != nil {
		return err
	}
	if err := take(mode, manager); err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return err
	}
	if err := manager.AddReadyzCheck("readyz", healthz.Ping); err != nil {
		return err
	}
	ctrl.Log.WithName("setup").Info("the fake's manager starts", "mode", mode, "version", api.Release())
	return manager.Start(ctrl.SetupSignalHandler())
}

func take(mode string, manager ctrl.Manager) error {
	switch mode {
	case "controller":
		workflows := &control.Workflows{Client: manager.GetClient(), Log: ctrl.Log.WithName("controllers").WithName("Workflow")}
		return workflows.SetupWithManager(manager)
	case "webhook":
		workflows := admission.Workflows{Rules: admission.Rules{Reader: manager.GetClient()}}
		manager.GetWebhookServer().Register("/convert", http.HandlerFunc(admission.Convert))
		return ctrl.NewWebhookManagedBy(manager).For(&api.Workflow{}).WithDefaulter(workflows).WithValidator(workflows).Complete()
	}
	return fmt.Errorf("--mode is controller or webhook, not %q", mode)
}
