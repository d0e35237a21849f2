// A fake DataWorkflowServices, written for the lab.

package control

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"lab/dws/api"
)

// holdKey is the ConfigMap by which tests hold Workflows in a state or make them fail there. The controller's role lets it
// read ConfigMaps in its own namespace only, as the true one's does.
var holdKey = client.ObjectKey{Namespace: "dws-system", Name: "lab-hold"}

// hold gives the lab's driver its say about the present state: it waits or fails as the ConfigMap has it, and is
// completed once the ConfigMap no longer mentions it.
func (w *Workflows) hold(ctx context.Context, workflow *api.Workflow) error {
	var orders corev1.ConfigMap
	if err := client.IgnoreNotFound(w.Get(ctx, holdKey, &orders)); err != nil {
		return err
	}
	order, held := ordered(orders.Data, workflow)
	status := &workflow.Status
	index := slices.IndexFunc(status.Drivers, func(driver api.DriverStatus) bool {
		return driver.DriverID == api.Holder && driver.WatchState == status.State
	})
	if index < 0 && !held {
		return nil
	}
	if index < 0 {
		status.Drivers = append(status.Drivers, api.DriverStatus{DriverID: api.Holder, WatchState: status.State})
		index = len(status.Drivers) - 1
	}
	obey(&status.Drivers[index], order, held)
	return nil
}

// ordered looks for the key WORKFLOW.STATE, then for STATE.
func ordered(orders map[string]string, workflow *api.Workflow) (string, bool) {
	state := string(workflow.Status.State)
	if order, found := orders[workflow.Name+"."+state]; found {
		return order, true
	}
	order, found := orders[state]
	return order, found
}

// obey turns "error TEXT" into a failed driver and any other text into one that waits.
func obey(driver *api.DriverStatus, order string, held bool) {
	driver.Completed, driver.Message, driver.Error = !held, "", ""
	text, failed := strings.CutPrefix(order, "error")
	switch {
	case !held:
		driver.Status = api.Completed
	case failed:
		driver.Status, driver.Message, driver.Error = api.Error, strings.TrimSpace(text), strings.TrimSpace(text)
	default:
		driver.Status, driver.Message = api.DriverWait, order
	}
}
