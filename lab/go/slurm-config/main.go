// Slurm-config is two fakes of what HPE ships for Slurm on CSM, which is not public. What they do follows what the
// documents for administrators say about them.
//
// render FOLDER NAMESPACE/NAME: the Job that renders templates. FOLDER has the templates, a file each; the ConfigMap
// NAME gets them as its keys, with {{ nodes }} replaced by the variable NODES.
//
// operate FILE: the Slurm operator. FILE is JSON: the path of a SlurmCluster, and the Deployments that it owns; what
// somebody else changes in their pods' templates is undone.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// Object is an object of the API, as JSON has it.
type Object = map[string]any

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(arguments []string) error {
	api, err := newAPI()
	if err != nil {
		return err
	}
	switch {
	case len(arguments) == 3 && arguments[0] == "render":
		return render(api, arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "operate":
		return operate(api, arguments[1])
	}
	return errors.New("usage: slurm-config render FOLDER NAMESPACE/NAME | operate FILE")
}

// --- the Job

func render(api *API, folder, result string) error {
	data, err := rendered(folder, os.Getenv("NODES"))
	if err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(result, "/")
	list := "/api/v1/namespaces/" + namespace + "/configmaps"
	object := Object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": Object{"name": name, "namespace": namespace}, "data": data,
	}
	if _, err = api.call(http.MethodPut, list+"/"+name, object); isMissing(err) {
		_, err = api.call(http.MethodPost, list, object)
	}
	if err == nil {
		log.Printf("wrote %d files to ConfigMap %s", len(data), result)
	}
	return err
}

// rendered is the text of each template. A placeholder that it does not know is an error.
func rendered(folder, nodes string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "[^.]*"))
	if err != nil {
		return nil, err
	}
	data := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		data[name] = string(text)
		// as a real template engine would, it takes no braces for text in the files that have placeholders
		if strings.HasPrefix(name, "slurm") {
			data[name] = strings.ReplaceAll(data[name], "{{ nodes }}", nodes)
			if _, rest, unknown := strings.Cut(data[name], "{{"); unknown {
				return nil, fmt.Errorf("template %s: unknown placeholder {{%.20s", name, rest)
			}
		}
	}
	return data, nil
}

// --- the operator

// Owned is what the operator is given: the path of the SlurmCluster, and Deployments.
type Owned struct {
	Cluster     string   `json:"cluster"`
	Deployments []Object `json:"deployments"`
}

func operate(api *API, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var owned Owned
	if err := json.Unmarshal(text, &owned); err != nil {
		return err
	}
	for {
		for _, deployment := range owned.Deployments {
			if err := reconcile(api, owned.Cluster, deployment); err != nil {
				log.Print(err) // the next round tries again, as an operator's queue does
			}
		}
		time.Sleep(time.Second)
	}
}

// reconcile makes the Deployment, or puts its spec back. What `kubectl rollout restart` notes in the pods' template stays.
func reconcile(api *API, clusterPath string, wanted Object) error {
	cluster, err := api.call(http.MethodGet, clusterPath, nil)
	if err != nil {
		return err
	}
	metadata := wanted["metadata"].(Object)
	metadata["ownerReferences"] = []any{Object{
		"apiVersion": cluster["apiVersion"], "kind": cluster["kind"], "controller": true,
		"name": cluster["metadata"].(Object)["name"], "uid": cluster["metadata"].(Object)["uid"],
	}}
	list := fmt.Sprintf("/apis/apps/v1/namespaces/%s/deployments", metadata["namespace"])
	path := fmt.Sprintf("%s/%s", list, metadata["name"])
	found, err := api.call(http.MethodGet, path, nil)
	if isMissing(err) {
		_, err = api.call(http.MethodPost, list, wanted)
		return err
	}
	if err != nil {
		return err
	}
	target := copied(wanted)
	template(target)["metadata"].(Object)["annotations"] = template(found)["metadata"].(Object)["annotations"]
	// the server fills in what is left out: only its own words can be compared with what is there
	filled, err := api.call(http.MethodPut, path+"?dryRun=All", target)
	if err != nil || reflect.DeepEqual(filled["spec"], found["spec"]) {
		return err
	}
	log.Printf("Deployment %s was changed: putting it back", metadata["name"])
	_, err = api.call(http.MethodPut, path, target)
	return err
}

func template(deployment Object) Object {
	return deployment["spec"].(Object)["template"].(Object)
}

func copied(object Object) Object {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // it came from JSON
	}
	var result Object
	if err := json.Unmarshal(text, &result); err != nil {
		panic(err)
	}
	return result
}

// --- the API

// API is the API server as a pod reaches it, with its service account.
type API struct {
	address string
	client  http.Client
}

// Refusal is an answer of the API server that is none of success.
type Refusal struct {
	status int
	text   string
}

func (refusal Refusal) Error() string { return refusal.text }

func isMissing(err error) bool {
	var refusal Refusal
	return errors.As(err, &refusal) && refusal.status == http.StatusNotFound
}

func newAPI() (*API, error) {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	address := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	return &API{"https://" + address, http.Client{Transport: transport, Timeout: 20 * time.Second}}, nil
}

func (api *API) call(method, path string, body Object) (Object, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, api.address+path, content)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(account + "token") // it is renewed from time to time
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	answer, err := api.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		return nil, Refusal{answer.StatusCode, fmt.Sprintf("%s %s: %s: %.300s", method, path, answer.Status, text)}
	}
	var object Object
	return object, json.Unmarshal(text, &object)
}
