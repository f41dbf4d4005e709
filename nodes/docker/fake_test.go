package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"chaos/nodes"
)

// fakeEngine answers as an engine would, what the test wants; DOCKER_HOST leads to it.
func fakeEngine(t *testing.T, answer func(method, path, filters string) any) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.44")
		w.Header().Set("Content-Type", "application/json")
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the version
		if a := answer(r.Method, path, r.URL.Query().Get("filters")); a == nil {
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
			fakeEngine(t, func(method, path, _ string) any {
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
				}
				return nothing(path)
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
	fakeEngine(t, func(string, string, string) any { return container.InspectResponse{State: state} })
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
	fakeEngine(t, func(method, path, _ string) any {
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

// A wire is told what is written.
type wire func(text string)

func (w wire) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

func (w wire) Close() error { return nil }

// No container is frozen before the watchdog has said that it watches it.
func TestFrozenOnlyWhenWatched(t *testing.T) {
	const watch, pause = "watch c1\n", "POST containers/c1/pause"
	for answer, want := range map[string][]string{guardReady + "\n": {watch, pause}, "what?\n": {watch}, "": {watch}} {
		var did []string
		fakeEngine(t, func(method, path, _ string) any {
			if method == http.MethodPost {
				did = append(did, method+" "+path)
				return nil
			}
			return container.InspectResponse{State: &container.State{Running: true, Paused: slices.Contains(did, pause)}}
		})
		dog := &guard{cmd: &exec.Cmd{}, in: wire(func(order string) { did = append(did, order) }), out: bufio.NewReader(strings.NewReader(answer))}
		m := machine{&box{e: testEngine(t), id: "c1", name: "p-n1", node: 1, guard: dog}}
		if err := m.bring(t.Context(), nodes.MachineState{Frozen: true}); !slices.Equal(did, want) || (err == nil) != (len(want) == 2) {
			t.Errorf("a watchdog that says %q: %q, %v", answer, did, err)
		}
	}
}

// The watchdog thaws when its input ends, although it was told to end before that.
func TestWatchdogTold(t *testing.T) {
	thawed := false
	fakeEngine(t, func(method, path, _ string) any {
		thawed = thawed || method == http.MethodPost && path == "containers/c1/unpause"
		return container.InspectResponse{State: &container.State{Running: true, Paused: !thawed}}
	})
	ctx, tell := context.WithCancel(t.Context())
	var said []string
	err := Watchdog(ctx, strings.NewReader("watch c1\nwhat\n"), wire(func(s string) { tell(); said = append(said, s) }))
	if err != nil || !thawed || len(said) != 2 || said[1] == said[0] {
		t.Errorf("thawed: %v, %v, said %q", thawed, err, said)
	}
}

// A container that is found frozen is watched as well.
func TestFoundFrozenIsWatched(t *testing.T) {
	fakeEngine(t, func(string, string, string) any {
		return container.InspectResponse{State: &container.State{Running: true, Paused: true}}
	})
	var told []string
	dog := &guard{cmd: &exec.Cmd{}, in: wire(func(order string) { told = append(told, order) }), out: bufio.NewReader(strings.NewReader(guardReady + "\n"))}
	m := machine{&box{e: testEngine(t), id: "c1", name: "p-n1", node: 1, guard: dog}}
	if err := m.bring(t.Context(), nodes.MachineState{Frozen: true}); err != nil || !slices.Equal(told, []string{"watch c1\n"}) {
		t.Errorf("told %q, %v", told, err)
	}
}

// What is asked for while a run is interrupted is made before the run tidies up,
// so that the run knows of it.
func TestMakingIsUnbroken(t *testing.T) {
	var interrupt func()
	fakeEngine(t, func(method, path, _ string) any {
		if method == http.MethodPost {
			interrupt()
			time.Sleep(50 * time.Millisecond) // whoever gives up does it now
		}
		if path == "volumes/create" {
			return volume.Volume{Name: lockPrefix + "p", Labels: map[string]string{labelRun: "a run", labelOwner: self().String()}}
		}
		return container.CreateResponse{ID: "made"}
	})
	s := &set{e: testEngine(t), project: "p", image: "i", prefix: anySubnet, labels: map[string]string{}}
	for what, make := range map[string]func(context.Context) error{
		"network":   s.makeNetwork,
		"container": func(ctx context.Context) error { _, err := s.makeHost(ctx, nodes.Member{ID: 1}); return err },
		"lock": func(ctx context.Context) error {
			_, err := s.e.lock(ctx, "p", "a run", []*box{{id: "c1", dir: dataDir}})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		interrupt = cancel
		if err := make(ctx); err != nil || ctx.Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := make(ctx); err == nil {
			t.Errorf("%s: begun after the interrupt", what)
		}
	}
}

// nothing is what an engine that has nothing lists.
func nothing(path string) any {
	if path == "volumes" {
		return volume.ListResponse{}
	}
	return []any{}
}

// A run removes what it made, and not what another harness, or another run of
// this one, made by the same name.
func TestRemovesOnlyItsOwn(t *testing.T) {
	mine := map[string]string{labelRun: "a run", labelOwner: self().String(), labelProject: "p"}
	others := map[string]string{labelRun: "a run", labelOwner: owner{"elsewhere", "5@6"}.String(), labelProject: "p"}
	later := map[string]string{labelRun: "another run", labelOwner: self().String(), labelProject: "p"}
	var removed []string
	fakeEngine(t, func(method, path, _ string) any {
		switch {
		case method == http.MethodDelete:
			removed = append(removed, path)
			return nil
		case path == "networks" && len(removed) == 0:
			return []network.Summary{{Network: network.Network{ID: "mine", Name: "p", Labels: mine}},
				{Network: network.Network{ID: "others", Name: "p", Labels: others}}, {Network: network.Network{ID: "later", Name: "p", Labels: later}}}
		}
		return nothing(path)
	})
	s := &set{e: testEngine(t), project: "p", labels: mine}
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt() // what was made is removed all the same
	if err := s.remove(interrupted); err != nil || !slices.Equal(removed, []string{"networks/mine"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
}

// A run of a harness elsewhere in containers that are not its own lives as long as
// its agents do there.
func TestLockFromElsewhere(t *testing.T) {
	lock := map[string]string{labelRun: "a run", labelOwner: owner{"elsewhere", "5@6"}.String(), labelProject: lockPrefix + "p", labelHolds: "c1"}
	for args, left := range map[string]int{"/chaos agent --door": 0, "/chaos agent --listen :7100": 1} {
		fakeEngine(t, func(_, path, _ string) any {
			switch path {
			case "volumes":
				return volume.ListResponse{Volumes: []volume.Volume{{Name: "lock", Labels: lock}}}
			case "containers/c1/top":
				return container.TopResponse{Titles: []string{"PID", "COMMAND"}, Processes: [][]string{{"7", args}}}
			}
			return nothing(path)
		})
		all, err := testEngine(t).things(t.Context(), labelRun)
		if dead := orphans(all); err != nil || len(all) != 1 || len(dead) != left {
			t.Errorf("beside %q %v of %v are left over, %v", args, dead, all, err)
		}
	}
}

// What a harness elsewhere has just made is not left over, although no container
// of it runs yet: the harness may be about to start one. The engine's clock tells.
func TestYoungFromElsewhere(t *testing.T) {
	labels := map[string]string{labelRun: "a run", labelOwner: owner{"elsewhere", "5@6"}.String(), labelProject: "p"}
	now := time.Now().Add(-24 * time.Hour)
	for age, left := range map[time.Duration]int{startWait - time.Second: 0, startWait + time.Second: 1} {
		for _, kind := range []string{kindContainer, kindVolume, kindNetwork} {
			fakeEngine(t, func(_, path, _ string) any {
				switch made := now.Add(-age); {
				case path == "info":
					return system.Info{SystemTime: now.Format(time.RFC3339Nano)}
				case path == "containers/json" && kind == kindContainer:
					return []container.Summary{{ID: "c1", State: container.StateCreated, Created: made.Unix(), Labels: labels}}
				case path == "volumes" && kind == kindVolume:
					return volume.ListResponse{Volumes: []volume.Volume{{Name: "v", CreatedAt: made.Format(time.RFC3339), Labels: labels}}}
				case path == "networks" && kind == kindNetwork:
					return []network.Summary{{Network: network.Network{ID: "w1", Name: "p", Created: made, Labels: labels}}}
				}
				return nothing(path)
			})
			if dead, err := Clean(t.Context(), Config{}, true); err != nil || len(dead) != left {
				t.Errorf("%s made %s ago: %v, %v", kind, age, dead, err)
			}
		}
	}
}

// A network of somebody else that has the project's name is left alone: engines
// would take the name a second time.
func TestForeignNetwork(t *testing.T) {
	name := "p"
	fakeEngine(t, func(_, path, filters string) any {
		if path == "networks" && strings.Contains(filters, "name") { // it has no label of ours
			return []network.Summary{{Network: network.Network{ID: "theirs", Name: name}}}
		}
		return nothing(path)
	})
	p := New("", Config{Project: "p"})
	_, err := p.nameSet(t.Context(), testEngine(t), "", "a run")
	says(t, "a name that is taken", err, "network p", "not ours", "--project")
	name = "p2" // engines look for what is within a name
	if _, err := p.nameSet(t.Context(), testEngine(t), "", "a run"); err != nil {
		t.Error(err)
	}
}

// A container without a network of its own is none to hurt: all that shares the
// network would suffer, the engine's machine itself.
func TestSidecarOfMachine(t *testing.T) {
	for mode, refused := range map[container.NetworkMode]bool{"host": true, "container:other": true, "bridge": false} {
		fakeEngine(t, func(_, path, _ string) any {
			if path == "containers/web/json" {
				in := network.EndpointSettings{IPAddress: netip.MustParseAddr("10.1.2.3")}
				return container.InspectResponse{ID: "c1", State: &container.State{Running: true}, HostConfig: &container.HostConfig{NetworkMode: mode},
					NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{"w": &in}}}
			}
			return nothing(path)
		})
		p := New("", Config{Sidecars: map[nodes.ID]string{1: "web", 2: "web"}})
		if _, _, twice := p.beside(t.Context(), testEngine(t), "", nodes.Options{Nodes: 2}); !refused {
			says(t, "one container for two nodes", twice, "web", "both n1 and n2")
		}
		_, _, err := p.beside(t.Context(), testEngine(t), "", nodes.Options{Nodes: 1})
		if refused {
			says(t, string(mode), err, "web", "no network of its own", string(mode))
		} else if err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}
