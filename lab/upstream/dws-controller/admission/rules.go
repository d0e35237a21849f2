// A fake DataWorkflowServices, written for the lab.

package admission

import (
	"context"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"lab/dws/api"
	"lab/dws/directive"
)

// Rules reads DWDirectiveRules from the namespace that the webhook runs in.
type Rules struct {
	client.Reader
}

// check returns the rules that apply to a Workflow's directives; no directives need no rules.
func (r Rules) check(ctx context.Context, workflow *api.Workflow) ([]directive.Match, error) {
	if len(workflow.Spec.DWDirectives) == 0 {
		return nil, nil
	}
	rules, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	return directive.Check(rules, workflow.Spec.DWDirectives)
}

func (r Rules) read(ctx context.Context) ([]api.RuleSpec, error) {
	namespace := os.Getenv("POD_NAMESPACE")
	var sets api.DWDirectiveRuleList
	if err := r.List(ctx, &sets, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	if len(sets.Items) == 0 {
		return nil, fmt.Errorf("unable to find ruleset in namespace: %s", namespace)
	}
	var rules []api.RuleSpec
	for _, set := range sets.Items {
		for _, rule := range set.Spec {
			if rule.DriverLabel == "" {
				rule.DriverLabel = set.Name
			}
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

// register enters the drivers that want to take part, one entry a directive, driver and state.
func register(workflow *api.Workflow, matches []directive.Match) {
	for _, match := range matches {
		for _, state := range strings.FieldsFunc(match.Rule.WatchStates, func(r rune) bool { return r == ',' }) {
			entry := api.DriverStatus{
				DriverID: match.Rule.DriverLabel, DWDIndex: match.Index, WatchState: api.State(state), Status: api.Pending,
			}
			if !registered(workflow, entry) {
				workflow.Status.Drivers = append(workflow.Status.Drivers, entry)
			}
		}
	}
}

func registered(workflow *api.Workflow, entry api.DriverStatus) bool {
	for _, driver := range workflow.Status.Drivers {
		if driver.DriverID == entry.DriverID && driver.DWDIndex == entry.DWDIndex && driver.WatchState == entry.WatchState {
			return true
		}
	}
	return false
}
