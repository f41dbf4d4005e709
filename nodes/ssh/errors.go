package ssh

import (
	"fmt"
	"strings"
)

// An errorAt says where something went wrong. The place stands before the words,
// which may end in a line to copy: nothing may be written behind that.
type errorAt struct {
	place string // a host's name, or what lies before it
	err   error
}

func (e *errorAt) Error() string { return "ssh: " + e.place + ": " + e.words() }
func (e *errorAt) Unwrap() error { return e.err }
func (e *errorAt) words() string { return strings.TrimPrefix(e.err.Error(), "ssh: ") }

// errorsOf are those of several hosts, in words that say nothing twice.
type errorsOf struct {
	all  []error
	text string
}

func (e *errorsOf) Error() string   { return e.text }
func (e *errorsOf) Unwrap() []error { return e.all }

// A saying is what one host or more complain of in the same words.
type saying struct {
	words, remedy string
	at            bool     // the words say nothing of the place
	hosts         []string // whose it is
}

func (s *saying) String() string {
	if s.at {
		return "ssh: " + strings.Join(s.hosts, ", ") + ": " + s.words
	}
	return s.words
}

// together joins the errors of hosts, of which some are nil. Where one thing is
// wrong, like a key or a machine on the way, all of them say the same: it is
// told once, and so is the remedy for what several complain of.
func together(rs []*remote, errs []error) error {
	out := &errorsOf{}
	var said []*saying
	for i, err := range errs {
		if err != nil {
			out.all = append(out.all, err)
			said = hear(said, rs[i].e.name, err)
		}
	}
	if len(out.all) == 0 {
		return nil
	}
	out.text = strings.Join(tell(said), "\n")
	return out
}

// hear adds what a host complains of.
func hear(said []*saying, host string, err error) []*saying {
	now := &saying{hosts: []string{host}}
	text := err.Error()
	if e, ok := err.(*errorAt); ok && e.place == host {
		now.at, text = true, e.words()
	}
	now.words, now.remedy, _ = strings.Cut(text, "; remedy: ")
	for _, s := range said {
		if s.at && now.at && s.words == now.words && s.remedy == now.remedy {
			s.hosts = append(s.hosts, host)
			return said
		}
	}
	return append(said, now)
}

// tell writes each saying, below the first of those that share its remedy.
func tell(said []*saying) (lines []string) {
	told := map[string]bool{}
	for _, s := range said {
		if s.remedy == "" {
			lines = append(lines, s.String())
		}
		if s.remedy == "" || told[s.remedy] {
			continue
		}
		told[s.remedy] = true
		var hosts []string
		first := len(lines)
		for _, o := range said {
			if o.remedy == s.remedy {
				lines, hosts = append(lines, o.String()), append(hosts, o.hosts...)
			}
		}
		if len(lines) == first+1 {
			lines[first] += "; remedy: " + s.remedy
		} else {
			lines = append(lines, fmt.Sprintf("remedy for %s: %s", strings.Join(hosts, ", "), s.remedy))
		}
	}
	return lines
}
