// A fake DataWorkflowServices, written for the lab.

package api

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Version is the API version that is stored and worked with.
var Version = schema.GroupVersion{Group: "dataworkflowservices.github.io", Version: "v1alpha2"}

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
