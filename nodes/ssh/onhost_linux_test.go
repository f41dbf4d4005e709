package ssh

import (
	"fmt"
	"os/exec"
	"testing"
)

// An agent that is stopped keeps no run from being cleaned.
func TestStoppedAgentServesNobody(t *testing.T) {
	for _, p := range []process{{agent: true, state: 'S'}, {agent: true, state: 'R'}, {agent: true, state: 'T'}, {state: 'S'}} {
		if want := p.agent && p != (process{agent: true, state: 'T'}); p.serves() != want {
			t.Errorf("%+v serves: %v", p, !want)
		}
	}
}

// A process that has got the number of one that was to be killed is spared.
func TestKillSparesWhoeverHasTheNumberNow(t *testing.T) {
	for _, other := range []bool{true, false} {
		cmd := exec.Command("cat") // which ends by itself with its input
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		p := process{pid: cmd.Process.Pid, id: identity(cmd.Process.Pid)}
		if other {
			p.id = fmt.Sprintf("%d@1", p.pid)
		}
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		in.Close()
		if err := cmd.Wait(); (err == nil) != other {
			t.Errorf("another process: %t; it ended with %v", other, err)
		}
	}
}
