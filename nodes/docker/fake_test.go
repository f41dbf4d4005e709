package docker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"chaos/nodes"
)

// fakeEngine answers as an engine would, what the test wants; DOCKER_HOST leads to it.
func fakeEngine(t *testing.T, answer func(method, path string) any) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.44")
		w.Header().Set("Content-Type", "application/json")
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the version
		if a := answer(r.Method, path); a == nil {
			w.WriteHeader(http.StatusNoContent)
		} else if err := json.NewEncoder(w).Encode(a); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_HOST", "tcp://"+s.Listener.Addr().String())
}

// An engine that says that it has removed a thing, and has not, is not believed.
func TestCleanLooksAgain(t *testing.T) {
	labels := map[string]string{labelRun: "a run", labelOwner: owner{thisMachine(), "1@0"}.String(), labelProject: "p"}
	for _, keeps := range []string{"", kindContainer, kindVolume, kindNetwork} {
		t.Run("keeps "+keeps, func(t *testing.T) {
			removed := map[string]bool{}
			there := func(kind string) bool { return !removed[kind] || keeps == kind }
			fakeEngine(t, func(method, path string) any {
				kind := strings.TrimSuffix(strings.Split(path, "/")[0], "s")
				if method == http.MethodDelete {
					removed[kind] = true
					return nil
				}
				switch {
				case path == "containers/json" && there(kind):
					return []container.Summary{{ID: "c1", Names: []string{"/p-n1"}, Labels: labels}}
				case path == "volumes" && there(kind):
					return volume.ListResponse{Volumes: []volume.Volume{{Name: "p-n1", Labels: labels}}}
				case path == "networks" && there(kind):
					return []network.Summary{{Network: network.Network{ID: "w1", Name: "p", Labels: labels}}}
				case path == "volumes":
					return volume.ListResponse{}
				}
				return []any{}
			})
			found, err := Clean(t.Context(), Config{}, false)
			if len(found) != 3 || len(removed) != 3 {
				t.Errorf("found %v, removed %v", found, removed)
			}
			if keeps == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			says(t, "clean", err, "still there: "+keeps+" p")
			if n := strings.Count(fmt.Sprint(err), "still there"); n != 1 {
				t.Errorf("%d things are said to be there: %v", n, err)
			}
		})
	}
}

// A machine's state is what the engine shows, whatever was asked for.
func TestMachineProof(t *testing.T) {
	var state *container.State
	fakeEngine(t, func(string, string) any { return container.InspectResponse{State: state} })
	m := machine{&box{e: testEngine(t), id: "c1", name: "p-n1", node: 1}}
	runs, frozen, down := &container.State{Running: true}, &container.State{Running: true, Paused: true}, &container.State{Status: "exited"}
	for _, test := range []struct {
		name  string
		is    *container.State // nil: the engine does not say
		asked nodes.MachineState
		holds []bool // of each proof
	}{
		{"runs", runs, nodes.MachineState{}, []bool{true, true}},
		{"runs, not frozen", runs, nodes.MachineState{Frozen: true}, []bool{true, false}},
		{"runs, not down", runs, nodes.MachineState{Down: true}, []bool{false}},
		{"frozen", frozen, nodes.MachineState{Frozen: true}, []bool{true, true}},
		{"frozen, not thawed", frozen, nodes.MachineState{}, []bool{true, false}},
		{"down", down, nodes.MachineState{Down: true}, []bool{true}},
		{"down, not back", down, nodes.MachineState{}, []bool{false, true}},
		{"down, not frozen", down, nodes.MachineState{Frozen: true}, []bool{false, false}},
		{"unknown", nil, nodes.MachineState{}, []bool{false, false}},
		{"unknown, not frozen", nil, nodes.MachineState{Frozen: true}, []bool{false, false}},
		{"unknown, not down", nil, nodes.MachineState{Down: true}, []bool{false}},
	} {
		state = test.is
		proofs := m.Prove(t.Context(), test.asked)
		if len(proofs) != len(test.holds) {
			t.Errorf("%s: %v", test.name, proofs)
			continue
		}
		for i, p := range proofs {
			if p.Holds != test.holds[i] {
				t.Errorf("%s: %+v", test.name, p)
			}
		}
	}
}

// A container counts as thawed, or frozen, when the engine shows it so, and not
// when it says that it did it.
func TestFreezeIsSeen(t *testing.T) {
	asked := 0
	fakeEngine(t, func(method, path string) any {
		if method == http.MethodPost {
			asked++
			return nil
		}
		return container.InspectResponse{State: &container.State{Running: true, Paused: asked < 3}}
	})
	if err := testEngine(t).freeze(t.Context(), "c1", false); err != nil || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	says(t, "freeze", testEngine(t).freeze(t.Context(), "c1", true), "does not make it frozen=true")
}
