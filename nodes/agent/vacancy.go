package agent

import (
	"fmt"
	"sync"
	"time"
)

// doorIdle is how long a door stays open while no agent is asked for behind it:
// before the first controller comes, and after one that left by itself, whose
// files may be fetched meanwhile. Behind a controller that fell silent it is one
// lease more: by then the network is dead, and nobody else would ever end us.
const doorIdle = 2 * time.Minute

// A vacancy ends a door behind which no agent is wanted any more. A nil one
// belongs to an agent without a door, which ends by itself.
type vacancy struct {
	end   func()
	mu    sync.Mutex
	timer *time.Timer
	turn  int   // of the door being empty or not, so that a late timer ends nothing
	why   error // the door was ended
}

func newVacancy(end func()) *vacancy {
	v := &vacancy{end: end}
	v.left(doorIdle)
	return v
}

// taken notes that a controller is served, or that the door has closed.
func (v *vacancy) taken() {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.turn++
	v.timer.Stop()
}

// left notes that an agent has healed, and ends the door unless another
// controller comes within limit.
func (v *vacancy) left(limit time.Duration) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.turn++
	turn := v.turn
	v.timer = time.AfterFunc(limit, func() { v.expire(turn, limit) })
}

func (v *vacancy) expire(turn int, limit time.Duration) {
	v.mu.Lock()
	late := v.turn != turn
	if !late {
		v.why = fmt.Errorf("agent: the door is closed: nobody asked for its agent for %s", limit)
	}
	v.mu.Unlock()
	if !late {
		v.end()
	}
}

// err is why the door was ended, nil if it was not.
func (v *vacancy) err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.why
}
