// A fake DataWorkflowServices, written for the lab.

package admission

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"lab/dws/api"
)

// kept holds the v1alpha2 form of an object in its v1alpha1 form, which has less to say.
const kept = "dataworkflowservices.github.io/conversion-data"

const oldest = "dataworkflowservices.github.io/v1alpha1"

type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *request  `json:"request,omitempty"`
	Response        *response `json:"response,omitempty"`
}

type request struct {
	UID               types.UID                   `json:"uid"`
	DesiredAPIVersion string                      `json:"desiredAPIVersion"`
	Objects           []unstructured.Unstructured `json:"objects"`
}

type response struct {
	UID              types.UID                   `json:"uid"`
	ConvertedObjects []unstructured.Unstructured `json:"convertedObjects"`
	Result           metav1.Status               `json:"result"`
}

// Convert answers the API server's ConversionReviews (apiextensions.k8s.io/v1).
func Convert(writer http.ResponseWriter, incoming *http.Request) {
	var asked review
	if err := json.NewDecoder(incoming.Body).Decode(&asked); err != nil || asked.Request == nil {
		http.Error(writer, fmt.Sprintf("no ConversionReview: %v", err), http.StatusBadRequest)
		return
	}
	answer := review{TypeMeta: asked.TypeMeta, Response: converted(asked.Request)}
	writer.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(writer).Encode(answer); err != nil {
		log.Error(err, "the answer to a ConversionReview was not sent")
	}
}

func converted(asked *request) *response {
	answer := &response{UID: asked.UID, ConvertedObjects: []unstructured.Unstructured{}}
	for _, object := range asked.Objects {
		if err := convert(&object, asked.DesiredAPIVersion); err != nil {
			answer.Result = metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}
			answer.ConvertedObjects = nil
			return answer
		}
		answer.ConvertedObjects = append(answer.ConvertedObjects, object)
	}
	answer.Result = metav1.Status{Status: metav1.StatusSuccess}
	return answer
}

func convert(object *unstructured.Unstructured, version string) error {
	if object.GetAPIVersion() == version {
		return nil
	}
	if version != oldest && object.GetAPIVersion() != oldest { // all others have the same fields
		object.SetAPIVersion(version)
		return nil
	}
	if version == api.Version.String() {
		return up(object, version)
	}
	return down(object, version)
}

// down keeps the whole object but its metadata in an annotation; v1alpha1's jobID is a number.
func down(object *unstructured.Unstructured, version string) error {
	whole := object.DeepCopy()
	delete(whole.Object, "metadata")
	data, err := json.Marshal(whole.Object)
	if err != nil {
		return err
	}
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[kept] = string(data)
	object.SetAnnotations(annotations)
	object.SetAPIVersion(version)
	if id, found, _ := unstructured.NestedString(object.Object, "spec", "jobID"); found && object.GetKind() == "Workflow" {
		number, _ := strconv.ParseInt(id, 10, 64) // what is no number is 0 there
		return unstructured.SetNestedField(object.Object, number, "spec", "jobID")
	}
	return nil
}

// up brings back the jobID that the annotation kept.
func up(object *unstructured.Unstructured, version string) error {
	annotations := object.GetAnnotations()
	data, found := annotations[kept]
	delete(annotations, kept)
	object.SetAnnotations(annotations)
	object.SetAPIVersion(version)
	if !found || object.GetKind() != "Workflow" {
		return nil
	}
	var whole map[string]any
	if err := json.Unmarshal([]byte(data), &whole); err != nil {
		return fmt.Errorf("annotation %s: %w", kept, err)
	}
	id, found, err := unstructured.NestedFieldNoCopy(whole, "spec", "jobID")
	if err != nil || !found {
		return err
	}
	if number, isNumber := id.(float64); isNumber {
		id = int64(number)
	}
	return unstructured.SetNestedField(object.Object, id, "spec", "jobID")
}
