package ssh

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chaos/nodes/agent"
)

// Every process of a run on a host carries its folder in the environment, the
// agent a second mark.
const (
	runMark   = "CHAOS_SSH_RUN"
	agentMark = "CHAOS_SSH_AGENT"
)

// quietFor is how long nothing of a run may have changed before it counts as
// dead for somebody who can't see its harness. A lost agent is tried again for
// less than that.
const quietFor = 2 * time.Minute

// An item is something of ours on a host.
type item struct {
	Name string   `json:"name"` // unique on the host: a path, a table's name
	Kind itemKind `json:"kind"`
	// Of a run:
	Owner     owner         `json:"owner,omitzero"`
	Quiet     time.Duration `json:"quiet,omitempty"` // since something in its folder changed
	Agent     bool          `json:"agent,omitempty"` // an agent of it works
	Processes []string      `json:"processes,omitempty"`
	// Of a table: the runs that it may belong to, and agents that are none of a
	// run over SSH, to which it may belong as well.
	Runs   []string `json:"runs,omitempty"`
	Others []string `json:"others,omitempty"`
	Size   int64    `json:"size,omitempty"` // bytes of a program or upload
}

type itemKind string

const (
	runItem     itemKind = "run"     // a run's folder or processes
	tableItem   itemKind = "table"   // of the firewall
	programItem itemKind = "program" // kept for the next run
	uploadItem  itemKind = "upload"  // of a program, broken off
)

// find lists everything of ours on this host.
func find(folder string) ([]item, error) {
	runs := map[string]*item{}
	run := func(dir string) *item {
		if runs[dir] == nil {
			runs[dir] = &item{Name: dir, Kind: runItem}
		}
		return runs[dir]
	}
	dirs, err := os.ReadDir(filepath.Join(folder, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("ssh: listing runs: %w", err)
	}
	for _, d := range dirs {
		dir := filepath.Join(folder, "runs", d.Name())
		if tableOf(dir) == "" {
			continue // not ours to judge
		}
		i := run(dir)
		i.Owner, i.Quiet = readOwner(dir), quietSince(dir)
	}
	processes, err := ourProcesses()
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		i := run(p.run)
		i.Processes = append(i.Processes, p.String())
		i.Agent = i.Agent || p.serves()
		if i.Owner == (owner{}) {
			i.Owner = readOwner(p.run)
		}
	}
	var out []item
	for _, i := range runs {
		out = append(out, *i)
	}
	tables, err := agent.Tables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		i := item{Name: t, Kind: tableItem, Others: otherAgents()}
		for dir := range runs {
			if tableOf(dir) == t {
				i.Runs = append(i.Runs, dir)
			}
		}
		out = append(out, i)
	}
	out = append(out, programs(folder)...)
	slices.SortFunc(out, func(a, b item) int { return strings.Compare(string(a.Kind)+a.Name, string(b.Kind)+b.Name) })
	return out, nil
}

// programs lists what lies beside the runs: programs, and uploads that broke off.
func programs(folder string) (out []item) {
	files, err := os.ReadDir(filepath.Join(folder, "bin"))
	if err != nil {
		return nil
	}
	for _, f := range files {
		i := item{Name: filepath.Join(folder, "bin", f.Name()), Kind: programItem}
		if strings.HasPrefix(f.Name(), ".upload-") {
			i.Kind = uploadItem
		}
		if info, err := f.Info(); err == nil {
			i.Size, i.Quiet = info.Size(), time.Since(info.ModTime())
		}
		out = append(out, i)
	}
	return out
}

// remove takes one item away.
func (i item) remove() error {
	switch i.Kind {
	case runItem:
		return errors.Join(endProcesses(i.Name, 0), removeRun(i.Name))
	case tableItem:
		return agent.DropTable(i.Name)
	}
	if err := os.Remove(i.Name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func readOwner(run string) (o owner) {
	b, err := os.ReadFile(filepath.Join(run, ownerFile))
	if err == nil {
		_ = json.Unmarshal(b, &o) // what is not understood is nobody's
	}
	return o
}

// quietSince tells how long nothing in a run's folder has changed.
func quietSince(run string) time.Duration {
	var newest time.Time
	look := func(path string) []os.DirEntry {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		entries, _ := os.ReadDir(path) // of a file: none
		return entries
	}
	for _, e := range look(run) {
		sub := filepath.Join(run, e.Name())
		for _, f := range look(sub) {
			look(filepath.Join(sub, f.Name()))
		}
	}
	return max(time.Since(newest), 0)
}

// An owner is the harness that a run belongs to.
type owner struct {
	Machine string `json:"machine,omitempty"` // the controller's, with its process namespace
	Process string `json:"process,omitempty"` // number and start
	Name    string `json:"name,omitempty"`    // for people: user@machine
}

// self is the owner of this harness's runs.
func self() owner {
	name, err := os.Hostname()
	if err != nil {
		name = "?"
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // not everywhere
	space, _ := os.Readlink("/proc/self/ns/pid")
	return owner{
		Machine: strings.Join([]string{name, strings.TrimSpace(string(boot)), space}, "/"),
		Process: identity(os.Getpid()),
		Name:    fmt.Sprintf("process %d on %s", os.Getpid(), name),
	}
}

// A lifeSign is what is known of a run's harness.
type lifeSign int

const (
	unseen lifeSign = iota // it lives elsewhere, if it lives
	living
	dead
)

// lives tells of a harness whether it lives, as seen from this machine.
func (o owner) lives() lifeSign {
	if o.Machine == "" || o.Machine != self().Machine {
		return unseen
	}
	pid, _, _ := strings.Cut(o.Process, "@")
	n := 0
	if _, err := fmt.Sscan(pid, &n); err != nil || n <= 0 {
		return unseen
	}
	if identity(n) == o.Process {
		return living
	}
	return dead
}

// serves tells whether it is an agent that works: one that is stopped serves nobody.
func (p process) serves() bool { return p.agent && p.state != 'T' }

// left tells whether a run's remains may be taken away, and if not why.
func (i item) left() (bool, string) {
	switch i.Owner.lives() {
	case living:
		return false, "it belongs to " + i.Owner.Name + ", which lives"
	case dead:
		return true, ""
	}
	switch {
	case i.Agent:
		return false, "its agent works, for " + i.Owner.who()
	case i.Quiet > 0 && i.Quiet < quietFor:
		return false, fmt.Sprintf("it changed %s ago, and belongs to %s; it counts as dead after %s", i.Quiet.Round(time.Second), i.Owner.who(), quietFor)
	}
	return true, ""
}

func (o owner) who() string {
	if o.Name == "" {
		return "somebody unknown"
	}
	return o.Name
}
