// Package control is the controller's part: it takes Workflows through their states.
//
// This is a fake DataWorkflowServices, written for the lab. No storage is behind it; drivers take part as they do
// in the true one, by their entries in status.drivers.
package control

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"lab/dws/api"
)

const finalizer = "dataworkflowservices.github.io/workflow"

var reconciles = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "dws_reconciles_total",
	Help: "How many times a Workflow was looked at",
})

func init() {
	metrics.Registry.MustRegister(reconciles)
}

// Workflows is the controller.
type Workflows struct {
	client.Client
	Log logr.Logger
}

// SetupWithManager has Reconcile called when a Workflow or its Computes change.
func (w *Workflows) SetupWithManager(manager ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(manager).For(&api.Workflow{}).Owns(&api.Computes{}).Complete(w)
}

// Reconcile takes one Workflow one step on; each write of it causes the next call.
func (w *Workflows) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	log := w.Log.WithValues("Workflow", request.NamespacedName)
	log.Info("Reconciling Workflow")
	reconciles.Inc()
	workflow := &api.Workflow{}
	if err := w.Get(ctx, request.NamespacedName, workflow); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := workflow.DeepCopy()
	err := w.advance(ctx, workflow, log)
	if err == nil && !reflect.DeepEqual(before, workflow) {
		err = w.Update(ctx, workflow)
	}
	if apierrors.IsConflict(err) {
		return ctrl.Result{}, nil // a newer form of it is on its way here
	}
	return ctrl.Result{}, err
}

func (w *Workflows) advance(ctx context.Context, workflow *api.Workflow, log logr.Logger) error {
	status := &workflow.Status
	switch {
	case !workflow.DeletionTimestamp.IsZero():
		return w.release(ctx, workflow)
	case controllerutil.AddFinalizer(workflow, finalizer):
		return nil
	case status.State != workflow.Spec.DesiredState:
		log.Info("Workflow goes to a state", "state", workflow.Spec.DesiredState)
		enter(status, workflow.Spec.DesiredState)
		return nil
	case status.State == api.Proposal && status.Computes.Name == "":
		return w.addComputes(ctx, workflow, log)
	case status.Ready:
		return nil
	}
	settle(status)
	if status.Ready {
		log.Info("Workflow has reached a state", "state", status.State)
	}
	return nil
}

func enter(status *api.WorkflowStatus, state api.State) {
	now := metav1.NowMicro()
	status.State = state
	status.Ready = false
	status.Status = api.DriverWait
	status.Message = ""
	status.DesiredStateChange = &now
}

// settle sets ready, status and message from the drivers of the present state: the gravest of them speaks.
func settle(status *api.WorkflowStatus) {
	var present []api.DriverStatus
	status.Ready, status.Status, status.Message = true, api.Completed, ""
	for _, driver := range status.Drivers {
		if driver.WatchState == status.State {
			present = append(present, driver)
			status.Ready = status.Ready && driver.Completed
		}
	}
	slices.SortStableFunc(present, func(a, b api.DriverStatus) int { return gravity(b.Status) - gravity(a.Status) })
	for _, driver := range present {
		if gravity(driver.Status) < gravity(present[0].Status) {
			break
		}
		if driver.Message != "" {
			status.Message = fmt.Sprintf("DW Directive %d: %s", driver.DWDIndex, driver.Message)
		}
		status.Status = rolled(driver.Status)
	}
	if status.Ready {
		now := metav1.NowMicro()
		status.ReadyChange = &now
		status.ElapsedTimeLastState = now.Sub(status.DesiredStateChange.Time).Round(time.Microsecond).String()
	}
}

func gravity(status string) int {
	return slices.Index([]string{api.Completed, api.DriverWait, api.TransientCondition, api.Error}, rolled(status))
}

// rolled is how a driver's status shows in the Workflow's.
func rolled(status string) string {
	switch status {
	case api.Error, api.TransientCondition, api.Completed:
		return status
	}
	return api.DriverWait
}
