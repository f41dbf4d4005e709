package sim

import (
	"errors"
	"fmt"
)

// Settings say what the simulated world is like, beside what a plan does to
// it. They are part of a plan, so that it replays. Times are in microseconds,
// chances in parts of a thousand.
type Settings struct {
	Chance   uint64 `json:"chance,omitempty"`      // another throw of all dice for the same plan
	Latency  int64  `json:"latency_us"`            // one way, at least
	Spread   int64  `json:"spread_us"`             // up to this much longer, each by a draw of its own
	Slow     int    `json:"slow,omitempty"`        // chance that a message takes SlowBy longer
	SlowBy   int64  `json:"slow_us,omitempty"`     //
	Lossy    int    `json:"lossy,omitempty"`       // chance that a message between nodes is lost
	Doubled  int    `json:"doubled,omitempty"`     // chance that one arrives twice
	Ordered  bool   `json:"ordered,omitempty"`     // messages of a link never overtake each other
	Sync     int64  `json:"sync_us"`               // a sync of the disk, at least
	SyncBy   int64  `json:"sync_by_us"`            // up to this much longer
	Skew     int    `json:"skew,omitempty"`        // clocks run up to so much faster or slower
	Power    bool   `json:"power,omitempty"`       // a node that is killed loses its machine's power, too
	Segment  int64  `json:"segment"`               // bytes of a journal's file
	Flight   int    `json:"inflight,omitempty"`    // commands that a core accepts undecided; 0: as many as live nodes
	Batch    int    `json:"batch,omitempty"`       // bytes of commands in a message; 0: as many as live nodes
	Wire     bool   `json:"wire,omitempty"`        // messages go through their codec
	Transfer int64  `json:"transfer_ms,omitempty"` // leadership is handed to another node about so often; 0: never
	TakeOver bool   `json:"take_over,omitempty"`   // after the storm a leader outside the majority is replaced as that is cut off
	Crashes  int64  `json:"crashes_ms,omitempty"`  // a node dies at a moment that hurts about so often; 0: never
	Cap      int    `json:"cap,omitempty"`         // operations after which clients stop; 0: none
}

// String tells what the world is like, in lines for people.
func (s Settings) String() string {
	out := fmt.Sprintf("messages take %d to %d µs", s.Latency, s.Latency+s.Spread)
	say := func(is bool, format string, args ...any) {
		if is {
			out += fmt.Sprintf(format, args...)
		}
	}
	say(s.Slow > 0, ", %d‰ of them %d µs longer", s.Slow, s.SlowBy)
	say(s.Lossy > 0, ", %d‰ are lost", s.Lossy)
	say(s.Doubled > 0, ", %d‰ come twice", s.Doubled)
	say(s.Ordered, ", none overtakes another")
	say(s.Wire, ", all go through their codec")
	say(true, "\na sync takes %d to %d µs, journal files have %d bytes", s.Sync, s.Sync+s.SyncBy, s.Segment)
	say(s.Power, ", kills take the power as well")
	say(s.Skew > 0, "\nclocks run up to %d‰ wrong", s.Skew)
	say(s.Flight > 0, "\nat most %d commands undecided", s.Flight)
	say(s.Batch > 0, "\nat most %d bytes of commands in a message", s.Batch)
	say(s.Transfer > 0, "\nleadership is handed over about every %d ms", s.Transfer)
	say(s.TakeOver, "\na leader is cut off while it is replaced")
	say(s.Crashes > 0, "\na node dies in the middle of a step about every %d ms", s.Crashes)
	say(s.Chance > 0, "\nthrow %d of the dice", s.Chance)
	say(s.Cap > 0, "\nclients stop after %d operations", s.Cap)
	return out
}

// Defaults is a quick network and a quick disk, as in one rack.
func Defaults() Settings {
	return Settings{Latency: 100, Spread: 400, Sync: 300, SyncBy: 700, Segment: 32 << 10}
}

// The bounds of Settings.
const (
	latencyMax = 10_000_000 // µs
	chanceMax  = 900        // per mille
	skewMax    = 500        // per mille
	segmentMin = 8 << 10    // bytes
	segmentMax = 16 << 20   // bytes
	flightMax  = 1 << 20
	batchMax   = 4 << 20 // bytes
)

// Check tells what is wrong with the settings, naming the field.
func (s Settings) Check() error {
	var errs []error
	within := func(name string, v, low, high int64) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("sim.%s is %d; it must be from %d to %d", name, v, low, high))
		}
	}
	within("latency_us", s.Latency, 1, latencyMax)
	within("spread_us", s.Spread, 0, latencyMax)
	within("slow", int64(s.Slow), 0, chanceMax)
	within("slow_us", s.SlowBy, 0, latencyMax)
	within("lossy", int64(s.Lossy), 0, chanceMax)
	within("doubled", int64(s.Doubled), 0, chanceMax)
	within("sync_us", s.Sync, 0, latencyMax)
	within("sync_by_us", s.SyncBy, 0, latencyMax)
	within("skew", int64(s.Skew), 0, skewMax)
	within("segment", s.Segment, segmentMin, segmentMax)
	within("inflight", int64(s.Flight), 0, flightMax)
	within("batch", int64(s.Batch), 0, batchMax)
	within("transfer_ms", s.Transfer, 0, 3_600_000)
	within("crashes_ms", s.Crashes, 0, 3_600_000)
	within("cap", int64(s.Cap), 0, 1<<30)
	return errors.Join(errs...)
}
