// A fake DataWorkflowServices, written for the lab.

package api

import "slices"

// State is a stage of a Workflow.
type State string

// The states, in their order.
const (
	Proposal State = "Proposal"
	Setup    State = "Setup"
	DataIn   State = "DataIn"
	PreRun   State = "PreRun"
	PostRun  State = "PostRun"
	DataOut  State = "DataOut"
	Teardown State = "Teardown"
)

// States are all of them, in their order.
var States = []State{Proposal, Setup, DataIn, PreRun, PostRun, DataOut, Teardown}

// Place is the state's place in the order; -1 for none, as a new Workflow has.
func (s State) Place() int {
	return slices.Index(States, s)
}
