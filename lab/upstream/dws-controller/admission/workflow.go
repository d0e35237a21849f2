// Package admission is the webhook's part: it defaults and validates Workflows and converts between API versions.
//
// This is a fake DataWorkflowServices, written for the lab: what it admits and refuses is what the true one
// admits and refuses, in words of its own.
package admission

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"lab/dws/api"
)

var log = ctrl.Log.WithName("workflow-resource")

// Workflows defaults and validates.
type Workflows struct {
	Rules Rules
}

// Default registers the drivers and sets the job's environment. Bad directives are left to the validation.
func (w Workflows) Default(ctx context.Context, object runtime.Object) error {
	workflow, err := workflowOf(object)
	if err != nil {
		return err
	}
	log.Info("default", "name", workflow.Name)
	if matches, err := w.Rules.check(ctx, workflow); err == nil {
		register(workflow, matches)
	}
	if workflow.Status.Env == nil {
		workflow.Status.Env = map[string]string{}
	}
	workflow.Status.Env["DW_WORKFLOW_NAME"] = workflow.Name
	workflow.Status.Env["DW_WORKFLOW_NAMESPACE"] = workflow.Namespace
	return nil
}

// ValidateCreate admits Workflows that begin at the beginning, with directives that some rule knows.
func (w Workflows) ValidateCreate(ctx context.Context, object runtime.Object) (admission.Warnings, error) {
	workflow, err := workflowOf(object)
	if err != nil {
		return nil, err
	}
	switch {
	case workflow.Spec.DesiredState != api.Proposal:
		return nil, field.Invalid(field.NewPath("Spec", "DesiredState"), workflow.Spec.DesiredState, "a Workflow starts in Proposal")
	case workflow.Spec.Hurry:
		return nil, field.Forbidden(field.NewPath("Spec", "Hurry"), "a new Workflow has no hurry")
	case workflow.Status.State != "":
		return nil, field.Forbidden(field.NewPath("Status", "State"), "a new Workflow has no state")
	}
	_, err = w.Rules.check(ctx, workflow)
	return nil, err
}

// ValidateUpdate admits the next state after the present one is reached, and Teardown always.
func (w Workflows) ValidateUpdate(_ context.Context, before, after runtime.Object) (admission.Warnings, error) {
	old, err := workflowOf(before)
	if err != nil {
		return nil, err
	}
	workflow, err := workflowOf(after)
	if err != nil {
		return nil, err
	}
	if workflow.Spec.Hurry && workflow.Spec.DesiredState != api.Teardown {
		return nil, field.Invalid(field.NewPath("Spec", "Hurry"), true, "only Teardown can be in a hurry")
	}
	if err := unchanged(old.Spec, workflow.Spec); err != nil {
		return nil, err
	}
	if old.Status.State == "" && workflow.Spec.DesiredState == api.Proposal {
		return nil, nil // the controller is about to take it up
	}
	if err := drivers(old.Status, workflow.Status.Drivers); err != nil {
		return nil, err
	}
	return nil, step(old.Status, workflow.Spec.DesiredState)
}

// ValidateDelete admits every deletion; the webhook's configuration doesn't even ask.
func (w Workflows) ValidateDelete(context.Context, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

func workflowOf(object runtime.Object) (*api.Workflow, error) {
	workflow, ok := object.(*api.Workflow)
	if !ok {
		return nil, fmt.Errorf("%T is no Workflow", object)
	}
	return workflow, nil
}

func unchanged(old, spec api.WorkflowSpec) error {
	for name, same := range map[string]bool{
		"WLMID":        old.WLMID == spec.WLMID,
		"JobID":        old.JobID == spec.JobID,
		"UserID":       old.UserID == spec.UserID,
		"GroupID":      old.GroupID == spec.GroupID,
		"DWDirectives": reflect.DeepEqual(old.DWDirectives, spec.DWDirectives),
	} {
		if !same {
			return field.Forbidden(field.NewPath("Spec", name), "this can't be changed")
		}
	}
	return nil
}

// drivers checks that only entries of the present state change, that no finished driver takes it back, and that none joins
// later than at the Workflow's creation: at such an entry the true webhook breaks off.
func drivers(old api.WorkflowStatus, now []api.DriverStatus) error {
	for index, driver := range now {
		path := field.NewPath("Status", "Drivers").Index(index)
		isNew := index >= len(old.Drivers)
		switch {
		case driver.WatchState != old.State:
			if isNew || !reflect.DeepEqual(driver, old.Drivers[index]) {
				return field.InternalError(path, fmt.Errorf("only a driver of the state %s can change now", old.State))
			}
		case isNew && !driver.Completed:
			return field.InternalError(path, fmt.Errorf("a driver takes part from the Workflow's creation on, by a rule"))
		case driver.Completed && (driver.Status != api.Completed || driver.Error != ""):
			return field.InternalError(path, fmt.Errorf("completed wants the status Completed and no error"))
		case !driver.Completed && !isNew && old.Drivers[index].Completed:
			return field.InternalError(path, fmt.Errorf("a completed driver stays completed"))
		}
	}
	return nil
}

func step(old api.WorkflowStatus, desired api.State) error {
	if desired == api.Teardown || desired == old.State {
		return nil
	}
	path := field.NewPath("Spec", "DesiredState")
	switch {
	case desired.Place() < old.State.Place():
		return field.Invalid(path, desired, "a Workflow does not go back")
	case desired.Place() > old.State.Place()+1:
		return field.Invalid(path, desired, "a Workflow skips no state")
	case !old.Ready:
		return field.Invalid(field.NewPath("Status", "State"), old.State, "this state is not reached yet")
	}
	return nil
}
