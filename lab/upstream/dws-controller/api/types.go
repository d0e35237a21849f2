// Package api has the types of dataworkflowservices.github.io that the fake works with: v1alpha2, in later releases v1alpha7.
//
// This is a fake DataWorkflowServices, written for the lab. Field names, types and enumerations are those of the
// true API; nothing else is.
package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Values of status and of a driver's status.
const (
	Pending            = "Pending"
	Queued             = "Queued"
	Running            = "Running"
	Completed          = "Completed"
	TransientCondition = "TransientCondition"
	Error              = "Error"
	DriverWait         = "DriverWait"
)

// Workflow is what a workload manager creates for a job.
type Workflow struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WorkflowSpec   `json:"spec,omitempty"`
	Status            WorkflowStatus `json:"status,omitempty"`
}

// WorkflowSpec is written by the workload manager.
type WorkflowSpec struct {
	DesiredState State              `json:"desiredState"`
	WLMID        string             `json:"wlmID"`
	JobID        intstr.IntOrString `json:"jobID"`
	UserID       uint32             `json:"userID"`
	GroupID      uint32             `json:"groupID"`
	Hurry        bool               `json:"hurry,omitempty"`
	DWDirectives []string           `json:"dwDirectives"`
}

// WorkflowStatus is written by the controller and by drivers; it is no subresource.
type WorkflowStatus struct {
	State                State                    `json:"state,omitempty"`
	Ready                bool                     `json:"ready"`
	Status               string                   `json:"status,omitempty"`
	Message              string                   `json:"message,omitempty"`
	Env                  map[string]string        `json:"env,omitempty"`
	Drivers              []DriverStatus           `json:"drivers,omitempty"`
	DirectiveBreakdowns  []corev1.ObjectReference `json:"directiveBreakdowns,omitempty"`
	Computes             corev1.ObjectReference   `json:"computes,omitempty"`
	DesiredStateChange   *metav1.MicroTime        `json:"desiredStateChange,omitempty"`
	ReadyChange          *metav1.MicroTime        `json:"readyChange,omitempty"`
	ElapsedTimeLastState string                   `json:"elapsedTimeLastState,omitempty"`
}

// DriverStatus is one driver's part in one state of a Workflow.
type DriverStatus struct {
	DriverID     string            `json:"driverID"`
	TaskID       string            `json:"taskID"`
	DWDIndex     int               `json:"dwdIndex"`
	WatchState   State             `json:"watchState"`
	LastHB       int64             `json:"lastHB"`
	Completed    bool              `json:"completed"`
	Status       string            `json:"status,omitempty"`
	Message      string            `json:"message,omitempty"`
	Error        string            `json:"error,omitempty"`
	CompleteTime *metav1.MicroTime `json:"completeTime,omitempty"`
}

// WorkflowList is several Workflows.
type WorkflowList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workflow `json:"items"`
}

// Computes names the compute nodes of one Workflow.
type Computes struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Data              []Compute `json:"data,omitempty"`
}

// Compute is one compute node.
type Compute struct {
	Name string `json:"name"`
}

// ComputesList is several Computes.
type ComputesList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Computes `json:"items"`
}

// DWDirectiveRule says which #DW lines are valid, and which driver takes part in which states for them.
type DWDirectiveRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              []RuleSpec `json:"spec,omitempty"`
}

// RuleSpec is the rule for one #DW command.
type RuleSpec struct {
	Command     string    `json:"command"`
	DriverLabel string    `json:"driverLabel,omitempty"`
	WatchStates string    `json:"watchStates,omitempty"`
	RuleDefs    []RuleDef `json:"ruleDefs"`
}

// RuleDef is the rule for one argument of a #DW command; Key is a regular expression.
type RuleDef struct {
	Key             string `json:"key"`
	Type            string `json:"type"`
	Pattern         string `json:"pattern,omitempty"`
	Min             int    `json:"min,omitempty"`
	Max             int    `json:"max,omitempty"`
	IsRequired      bool   `json:"isRequired,omitempty"`
	IsValueRequired bool   `json:"isValueRequired,omitempty"`
	UniqueWithin    string `json:"uniqueWithin,omitempty"`
}

// DWDirectiveRuleList is several DWDirectiveRules.
type DWDirectiveRuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DWDirectiveRule `json:"items"`
}
