// A fake DataWorkflowServices, written for the lab.

package control

import (
	"context"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"lab/dws/api"
)

const group = "dataworkflowservices.github.io/"

// addComputes makes the Computes of a Workflow's name, which the Workflow owns and refers to.
func (w *Workflows) addComputes(ctx context.Context, workflow *api.Workflow, log logr.Logger) error {
	computes := &api.Computes{ObjectMeta: metav1.ObjectMeta{Name: workflow.Name, Namespace: workflow.Namespace}}
	done, err := controllerutil.CreateOrUpdate(ctx, w.Client, computes, func() error {
		computes.Labels = labels(workflow)
		return ctrl.SetControllerReference(workflow, computes, w.Scheme())
	})
	if err != nil {
		return err
	}
	log.Info("Computes are there", "name", computes.Name, "done", done)
	workflow.Status.Computes = corev1.ObjectReference{Kind: "Computes", Name: computes.Name, Namespace: computes.Namespace}
	return nil
}

// labels say of a child which Workflow it belongs to.
func labels(workflow *api.Workflow) map[string]string {
	return map[string]string{
		group + "workflow.name":      workflow.Name,
		group + "workflow.namespace": workflow.Namespace,
		group + "workflow.uid":       string(workflow.UID),
		group + "owner.kind":         "Workflow",
		group + "owner.name":         workflow.Name,
		group + "owner.namespace":    workflow.Namespace,
		group + "owner.uid":          string(workflow.UID),
	}
}

// release lets a deleted Workflow go once no other finalizer and no Computes are left.
func (w *Workflows) release(ctx context.Context, workflow *api.Workflow) error {
	if len(workflow.Finalizers) != 1 || !controllerutil.ContainsFinalizer(workflow, finalizer) {
		return nil
	}
	var children api.ComputesList
	owned := client.MatchingLabels{group + "owner.uid": string(workflow.UID)}
	if err := w.List(ctx, &children, client.InNamespace(workflow.Namespace), owned); err != nil {
		return err
	}
	for index := range children.Items {
		if err := client.IgnoreNotFound(w.Delete(ctx, &children.Items[index])); err != nil {
			return err
		}
	}
	if len(children.Items) == 0 {
		controllerutil.RemoveFinalizer(workflow, finalizer)
	}
	return nil
}
