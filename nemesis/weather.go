package nemesis

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"chaos/nodes"
)

// Weather lists the faults that "weather" stands for: what networks do to single
// packets, and how links come and go.
func Weather() []Fault {
	return []Fault{Lossy{}, Duplicate{}, Reorder{}, Throttle{}, WAN{}, Swizzle{}}
}

// onLinks makes an effect like e for each link between a victim and another
// node, in order. The argument direction names one way: out is from the victims,
// in is to them.
func onLinks(i Injection, e nodes.Effect) ([]nodes.Effect, error) {
	direction, err := i.Args.oneOf("direction", "out", "in", "both")
	if err != nil {
		return nil, err
	}
	ways := between(i.Victims, i.Members)
	switch direction {
	case "in":
		ways = between(i.Members, i.Victims)
	case "both", "":
		ways = both(ways)
	}
	links := map[nodes.Link]bool{}
	for _, l := range ways {
		if l.From != l.To {
			links[l] = true
		}
	}
	var out []nodes.Effect
	for _, l := range nodes.SortedLinks(links) {
		e.From, e.To = l.From, l.To
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, errors.New("a link needs at least 2 nodes")
	}
	return out, nil
}

// percent reads a share of packets, "10" or "2.5%", as parts in a thousand, from
// [nodes.PerMilleMin] to limit.
func (a Args) percent(missing, limit int) (perMille int, err error) {
	s, ok := a["percent"]
	if !ok {
		return missing, nil
	}
	whole, tenth, dotted := strings.Cut(strings.TrimSuffix(s, "%"), ".")
	if !dotted {
		tenth = "0"
	}
	n, err := strconv.ParseUint(whole+tenth, 10, 16)
	if err != nil || len(tenth) != 1 || whole == "" {
		return 0, fmt.Errorf("args: percent: %.64q is not a number like 10 or 2.5", s)
	}
	if int(n) < nodes.PerMilleMin || int(n) > limit {
		return 0, fmt.Errorf("args: percent: %.64s is not between %s and %s", s, nodes.Percent(nodes.PerMilleMin), nodes.Percent(limit))
	}
	return int(n), nil
}

// units of rates, longest first.
var units = []struct {
	name  string
	bytes int64
}{{"mb", 1_000_000}, {"kb", 1_000}, {"b", 1}, {"", 1}}

// rate reads bytes a second: "250kB/s", "1MB/s" or "250000".
func (a Args) rate(missing int64) (int64, error) {
	s, ok := a["rate"]
	if !ok {
		return missing, nil
	}
	number := strings.TrimSuffix(strings.ToLower(s), "/s")
	for _, u := range units {
		digits, is := strings.CutSuffix(number, u.name)
		if !is {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
		if err != nil {
			break
		}
		if n *= u.bytes; n < nodes.RateMin || n > nodes.RateMax {
			return 0, fmt.Errorf("args: rate: %.64s is not between %s and %s", s, nodes.Rate(nodes.RateMin), nodes.Rate(nodes.RateMax))
		}
		return n, nil
	}
	return 0, fmt.Errorf("args: rate: %.64q is not a rate like 250kB/s or 1MB/s", s)
}

// weatherArgs draws how hard the weather is; nil for other faults.
func (d *drawer) weatherArgs(fault string) Args {
	from := func(low, high int) string { return strconv.Itoa(low + d.r.IntN(high-low+1)) }
	switch fault {
	case Lossy{}.Name():
		return Args{"percent": from(5, 20)}
	case Duplicate{}.Name():
		return Args{"percent": from(5, 30)}
	case Reorder{}.Name():
		return Args{"percent": from(5, 30), "hold": from(2, 15) + "ms"}
	case Throttle{}.Name():
		return Args{"rate": from(100, 500) + "kB/s"}
	case WAN{}.Name():
		return Args{"profile": profiles[d.r.IntN(len(profiles))].name}
	}
	return nil
}

// holdDefault is how long a reordered packet waits, where nobody says otherwise.
const holdDefault = 5 * time.Millisecond
