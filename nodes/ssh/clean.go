package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// cleanWait bounds the cleaning of one host.
const cleanWait = 2 * time.Minute

// A Leftover is something of chaos on a host that no live run needs.
type Leftover struct {
	Host string // as the hosts file names it
	Kind string // run, table, program, upload
	Name string // a folder, a file, a table of the firewall
	Note string // what belongs to it: processes
	kept string // why it stays where it is; "": it is taken away
}

// String names it for people.
func (l Leftover) String() string {
	s := fmt.Sprintf("%s %s on %s", l.Kind, l.Name, l.Host)
	if l.Note != "" {
		s += " (" + l.Note + ")"
	}
	return s
}

// Clean finds what runs left on the hosts, of this user or as far as root may
// look of others, and takes it away unless dry is set: processes, tables of the
// firewall, folders, and the programs that are kept for the next run. It then
// looks again: what is still there is an error. A live run is never touched; what
// it needs is only told to c.Log, with the reason. program is this one where it
// is empty.
func Clean(ctx context.Context, program string, c Config, dry bool) ([]Leftover, error) {
	rs, err := New(program, c).remotes(0)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	byHost := make([][]Leftover, len(rs))
	err = each(rs, func(r *remote) error {
		found, err := r.clean(ctx, dry)
		mu.Lock()
		defer mu.Unlock()
		byHost[r.id-1] = found
		return err
	})
	tidied := each(rs, func(r *remote) error { return r.tidy(ctx) }) // only now: hosts may share a file system, and so the program
	return slices.Concat(byHost...), errors.Join(err, tidied)
}

// clean is all of it for one host but the program that it uses, which tidying up
// takes away.
func (r *remote) clean(ctx context.Context, dry bool) (out []Leftover, err error) {
	ctx, cancel := context.WithTimeout(ctx, cleanWait)
	defer cancel()
	a, err := r.ask(ctx, request{Op: opFind})
	if err != nil {
		return nil, err
	}
	var remove []string
	for _, l := range r.sort(a.Found) {
		switch {
		case l.kept == "" && l.Name == r.program:
			out, r.fresh = append(out, l), !dry
		case l.kept == "":
			out, remove = append(out, l), append(remove, l.Name)
		case l.Kind != string(programItem):
			r.p.say(fmt.Sprintf("%v stays: %s", l, l.kept))
		}
	}
	if dry || len(remove) == 0 {
		return out, nil
	}
	a, err = r.ask(ctx, request{Op: opClean, Remove: remove})
	if err == nil && len(a.Found) > 0 {
		err = fmt.Errorf("ssh: %s: still there after cleaning: %s", r.e.name, join(namesOf(a.Found)))
	}
	return out, err
}

func namesOf(items []item) (out []string) {
	for _, i := range items {
		out = append(out, i.Name)
	}
	return out
}

// sort tells the remains of dead runs from what live ones need. The program that
// came only to look is neither.
func (r *remote) sort(found []item) (out []Leftover) {
	kept := map[string]string{} // runs that live, and why they are taken to
	for _, i := range found {
		if i.Kind == runItem {
			if gone, why := i.left(); !gone {
				kept[i.Name] = why
			}
		}
	}
	for _, i := range found {
		l := Leftover{Host: r.e.name, Kind: string(i.Kind), Name: i.Name}
		switch i.Kind {
		case runItem:
			l.kept = kept[i.Name]
			if len(i.Processes) > 0 {
				l.Note = short(join(i.Processes))
			}
		case tableItem:
			l.kept = i.tableKept(kept)
		case uploadItem:
			if i.Quiet < quietFor {
				l.kept = "it may be under way"
			}
		case programItem:
			if r.fresh && i.Name == r.program {
				continue
			}
			if len(kept) > 0 {
				l.kept = "a live run may need it"
			}
		}
		out = append(out, l)
	}
	return out
}

// tableKept tells why a table of the firewall is not to be touched.
func (i item) tableKept(kept map[string]string) string {
	for _, run := range i.Runs {
		if kept[run] != "" {
			return "it belongs to " + run + ", which lives"
		}
	}
	if len(i.Runs) == 0 && len(i.Others) > 0 {
		return "it may belong to " + join(i.Others)
	}
	return ""
}
