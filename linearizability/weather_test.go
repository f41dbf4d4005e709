package linearizability

import (
	"context"
	"strings"
	"testing"
	"time"

	"chaos/history"
)

func weather(kind string) history.Note {
	return history.Note{ID: "w1", Fault: kind, Victims: []string{"n1"}, Kinds: []string{kind}, Quorum: true, Required: true}
}

// storm is a window in which twelve operations fail, an event every step.
func storm(n history.Note, step time.Duration) *tape {
	p := newTape()
	p.step = step
	p.reads(1, "n2")
	p.inject(true, n)
	p.failures(12, "n1")
	p.heal(true, true, n)
	p.reads(1, "n2")
	return p
}

// Through weather connections go on, so answers are expected, from the victims
// as well as from others; but where packets get lost an election takes longer.
func TestAnswersInWeather(t *testing.T) {
	for _, tt := range []struct {
		name string
		tape func() *tape
		want string // part of the doubt; "": none
	}{
		{"its victims answer", func() *tape {
			p, n := newTape(), weather("lossy")
			p.step = 200 * time.Millisecond
			p.inject(true, n)
			p.reads(12, "n1")
			p.heal(true, true, n)
			p.reads(1, "n2")
			return p
		}, ""},
		{"a victim that is cut off, too, must not answer for others", func() *tape {
			p, n := newTape(), weather("lossy")
			n.Kinds = []string{"cut", "lossy"}
			p.step = 200 * time.Millisecond
			p.inject(true, n)
			p.reads(12, "n1")
			p.heal(true, true, n)
			p.reads(1, "n2")
			return p
		}, "0 successes away from its victims"},
		{"two seconds of loss without answers", func() *tape { return storm(weather("lossy"), 80*time.Millisecond) }, ""},
		{"four of them", func() *tape { return storm(weather("lossy"), 160*time.Millisecond) }, "0 successes while a majority"},
		{"two seconds of a limited rate", func() *tape { return storm(weather("limited"), 80*time.Millisecond) }, ""},
		{"two seconds of doubled packets", func() *tape { return storm(weather("duplicated"), 80*time.Millisecond) }, "0 successes while a majority"},
		{"a cut in the middle of a loss", func() *tape {
			p, n := newTape(), weather("lossy")
			p.step = 80 * time.Millisecond
			p.inject(true, n)
			p.reads(40, "n2")
			p.inject(true, cut("i2"))
			p.failures(12, "n1")
			p.heal(true, true, cut("i2"))
			p.heal(true, true, n)
			p.reads(1, "n2")
			return p
		}, ""},
		{"the same cut after it", func() *tape {
			p, n := newTape(), weather("lossy")
			p.step = 80 * time.Millisecond
			p.inject(true, n)
			p.reads(40, "n2")
			p.heal(true, true, n)
			p.inject(true, cut("i2"))
			p.failures(12, "n1")
			p.heal(true, true, cut("i2"))
			p.reads(1, "n2")
			return p
		}, "0 successes away from its victims"},
	} {
		v, err := Judge(context.Background(), Input{History: tt.tape().history(), Options: testOptions()})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if doubt := v.Outcome == Unknown; doubt != (tt.want != "") || !strings.Contains(v.Reason, tt.want) {
			t.Errorf("%s: %s, %s; want %q", tt.name, v.Outcome, v.Reason, tt.want)
		}
	}
}
