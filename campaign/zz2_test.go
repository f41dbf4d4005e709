package campaign

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"chaos/nodes/sim"
)

func TestOneTry(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SEED"))
	name := os.Getenv("S")
	p, err := Swarm(name, uint64(n), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := os.Create("/tmp/trace.txt")
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	s := Simulated{Plan: p, System: simSystems[name]}
	s.Trace = func(x sim.Traced) {
		if x.At > time.Duration(from)*time.Second {
			fmt.Fprintln(f, x)
		}
	}
	out, err := s.Run()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%+v\n%+v\n", p.Spec, *p.Spec.Sim)
	for _, st := range p.Schedule {
		fmt.Println(st)
	}
	v, verdict, err := out.Judge(context.Background(), p)
	fmt.Println(v, verdict.Outcome, verdict.Reason, err, out.Trouble, out.Time)
}
