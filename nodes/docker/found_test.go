package docker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// aProject makes hosts as a compose file would: n1, n2, n3, with capabilities.
func aProject(t *testing.T, p *Provider, caps ...string) (project string, ids []string) {
	t.Helper()
	e := testEngine(t)
	image, err := BuildImage(t.Context(), testImage, p.program, nil)
	if err != nil {
		t.Fatal(err)
	}
	project = "theirs-" + fresh()
	s := &set{e: e, project: project, labels: map[string]string{labelRun: project, labelOwner: self().String(), labelProject: project}}
	if err := s.findNetwork(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, service := range []string{"n1", "n2", "n3"} {
		labels := map[string]string{composeProject: project, "com.docker.compose.service": service,
			labelRun: project, labelOwner: self().String(), labelProject: project}
		r, err := e.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: project + "-" + service,
			Config:     &container.Config{Image: image.ID, Entrypoint: []string{programPath}, Cmd: []string{"wait"}, Labels: labels},
			HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(s.network), CapAdd: caps, Tmpfs: map[string]string{dataDir: ""}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.ContainerStart(t.Context(), r.ID, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return project, ids
}

// Containers of a project that are there are used, hurt as machines, too, and
// left as they were found; nobody else gets them meanwhile.
func TestProject(t *testing.T) {
	t.Parallel()
	fresh := needEngine(t)
	project, ids := aProject(t, fresh, "NET_ADMIN")
	e := testEngine(t)
	p := New(fresh.program, Config{Image: testImage, Project: project})
	o := nodestest.ProviderOptions(t.TempDir(), "")
	o.Lease = testLease
	if err := (&box{e: e, id: ids[2]}).kill(t.Context()); err != nil { // one that does not run is started for the run alone
		t.Fatal(err)
	}
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			c.Close(context.Background())
		}
	}()
	for _, m := range c.Members() {
		serve(t, c, m)
	}
	second := o
	second.Dir = t.TempDir()
	if other, err := p.Launch(t.Context(), nodestest.Talker{}, second); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("launched twice: %v", err)
		if other != nil {
			other.Close(context.Background())
		}
	}
	for name, effect := range map[string]nodes.Effect{
		"cut": {Kind: nodes.Cut, From: 1, To: 2}, "kill": {Kind: nodes.Down, Node: 1},
		"down": {Kind: nodes.MachineDown, Node: 2}, "frozen": {Kind: nodes.MachineFrozen, Node: 3},
	} {
		ev, err := c.Apply(t.Context(), name, []nodes.Effect{effect})
		proven(t, name, ev, err)
		ev, err = c.Revert(t.Context(), name)
		proven(t, name, ev, err)
	}
	agentKilled(t, e, c, ids[1])
	ev, err := c.Apply(t.Context(), "held on", []nodes.Effect{{Kind: nodes.MachineFrozen, Node: 1}})
	proven(t, "frozen until the end", ev, err)
	closed = true
	if err := c.Close(context.Background()); err != nil {
		t.Error(err)
	}
	for i, id := range ids {
		b := &box{e: e, id: id, log: func(string) {}}
		if s, err := b.state(t.Context()); err != nil || s.Running != (i < 2) || s.Paused {
			t.Errorf("not left as it was found: %+v %v", s, err)
		} else if !s.Running {
			continue
		}
		if left := processesIn(t, e, id); len(left) != 1 {
			t.Errorf("processes are left: %v", left)
		}
	}
	if left := ofRun(t, e, o.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// agentKilled kills the agent beside a process of others, which keeps the
// network alive: the kernel's time limit alone ends the cut.
func agentKilled(t *testing.T, e *engine, c nodes.Cluster, id string) {
	t.Helper()
	if !e.at.local() || os.Geteuid() != 0 {
		t.Log("its processes are out of reach from here")
		return
	}
	ev, err := c.Apply(t.Context(), "held", []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}})
	proven(t, "cut", ev, err)
	for pid, command := range processesIn(t, e, id) {
		if strings.Contains(command, "agent") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if i := <-c.Incidents(); i.Kind != "agent-lost" {
		t.Errorf("told first: %+v", i)
	}
	until(t, "the agent is back and cuts again", func() bool {
		ev, err = c.Verify(t.Context(), "held")
		return err == nil && !slices.ContainsFunc(ev.Proofs, func(p nodes.Proof) bool { return !p.Holds })
	})
	ev, err = c.Revert(t.Context(), "held")
	proven(t, "heal", ev, err)
}

// processesIn lists a container's processes by their numbers here.
func processesIn(t *testing.T, e *engine, id string) map[int]string {
	t.Helper()
	r, err := e.ContainerTop(t.Context(), id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]string{}
	for _, p := range r.Processes {
		pid, err := strconv.Atoi(p[0])
		if err != nil {
			t.Fatal(err)
		}
		out[pid] = strings.Join(p[1:], " ")
	}
	return out
}

// Hosts of a project that would not do are refused, with what is missing.
func TestProjectRefused(t *testing.T) {
	t.Parallel()
	fresh := needEngine(t)
	project, _ := aProject(t, fresh)
	o := nodestest.ProviderOptions(t.TempDir(), "")
	p := New(fresh.program, Config{Image: testImage, Project: project})
	if _, err := p.Launch(t.Context(), nodestest.Talker{}, o); err == nil || !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("without a capability: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	b, err := os.ReadFile(fresh.program)
	if err == nil {
		err = os.WriteFile(other, append(b, "more"...), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(other, Config{Image: testImage, Project: project}).Launch(t.Context(), nodestest.Talker{}, o)
	says(t, "by another build", err, "another build", "chaos image")
	o.Nodes = 4
	if _, err := p.Launch(t.Context(), nodestest.Talker{}, o); err == nil || !strings.Contains(err.Error(), "n4") {
		t.Errorf("with a host too few: %v", err)
	}
}

// A run of a project that died with its watchdog has left a container frozen:
// it is found by the run's lock, thawed, and not removed.
func TestCleanThaws(t *testing.T) {
	t.Parallel()
	fresh := needEngine(t)
	project, ids := aProject(t, fresh, "NET_ADMIN")
	e := testEngine(t)
	run := filepath.Join(t.TempDir(), "run")
	boxes := []*box{{e: e, id: ids[0]}, {e: e, id: ids[1]}}
	lock, err := e.lock(t.Context(), project, run, boxes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.lock(t.Context(), project, run+"-2", boxes); err == nil || !strings.Contains(err.Error(), "in use by the run "+run) {
		t.Errorf("locked for a second run of this process: %v", err)
	}
	if err := e.freeze(t.Context(), ids[1], true); err != nil {
		t.Fatal(err)
	}
	if left := deadOf(t, run); len(left) > 0 {
		t.Errorf("left over while we live: %v", left)
	}
	if err := e.removeOne(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	dead := owner{thisMachine(), "1@0"}.String()
	if _, err := e.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: lock.Name, Labels: map[string]string{
		labelRun: run, labelOwner: dead, labelProject: lock.project, labelHolds: lock.holds}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.lock(t.Context(), project, run, boxes); err == nil || !strings.Contains(err.Error(), "chaos clean") {
		t.Errorf("locked a second time: %v", err)
	}
	left, err := Clean(t.Context(), Config{Project: project}, false)
	if err != nil || !slices.Equal(kinds(left), []string{kindFrozen, kindVolume}) {
		t.Errorf("cleaned: %v %v", left, err)
	}
	if s, err := (&box{e: e, id: ids[1]}).state(t.Context()); err != nil || s.Paused || !s.Running {
		t.Errorf("%+v %v", s, err)
	}
}
