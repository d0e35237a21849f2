// A fake DataWorkflowServices, written for the lab.

package api

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Version is the API version that is stored and worked with. From 0.1.13 on DWS serves v1alpha2 no more; of those the fake has one.
var Version = schema.GroupVersion{Group: "dataworkflowservices.github.io", Version: versionOf(Release())}

// Release is what the image says of itself: one binary serves them all.
func Release() string {
	said, err := os.ReadFile("/version")
	if err != nil {
		return "none: not in an image"
	}
	return strings.TrimSpace(string(said))
}

func versionOf(release string) string {
	var major, minor, patch int
	parts := strings.SplitN(release, ".", 3)
	for place, number := range []*int{&major, &minor, &patch} {
		if place < len(parts) {
			*number, _ = strconv.Atoi(parts[place]) // what is no number is 0: an older release
		}
	}
	if major > 0 || minor > 1 || (minor == 1 && patch >= 13) {
		return "v1alpha7"
	}
	return "v1alpha2"
}

// AddToScheme makes the types known to clients.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(Version,
		&Workflow{}, &WorkflowList{}, &Computes{}, &ComputesList{}, &DWDirectiveRule{}, &DWDirectiveRuleList{})
	metav1.AddToGroupVersion(scheme, Version)
	return nil
}

// copied makes a deep copy by way of JSON: these objects are small, and few.
func copied[T any](in *T) *T {
	out := new(T)
	data, err := json.Marshal(in)
	if err == nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		panic(err) // only a type above that is no JSON could cause it
	}
	return out
}

// DeepCopy is what controllers need before they change a cached object.
func (w *Workflow) DeepCopy() *Workflow { return copied(w) }

// DeepCopyObject and its siblings make the types runtime.Objects.
func (w *Workflow) DeepCopyObject() runtime.Object            { return copied(w) }
func (l *WorkflowList) DeepCopyObject() runtime.Object        { return copied(l) }
func (c *Computes) DeepCopyObject() runtime.Object            { return copied(c) }
func (l *ComputesList) DeepCopyObject() runtime.Object        { return copied(l) }
func (r *DWDirectiveRule) DeepCopyObject() runtime.Object     { return copied(r) }
func (l *DWDirectiveRuleList) DeepCopyObject() runtime.Object { return copied(l) }
