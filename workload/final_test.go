package workload

import (
	"testing"

	"chaos/history"
)

func TestLastWrite(t *testing.T) {
	for key, want := range map[string]string{
		"register/3": history.Write, "cas/1": history.Write, "set/9": history.Write, "append/2": history.Append, "counter/1": history.Add,
	} {
		op, ok := LastWrite([]string{"register/1", key})
		if !ok || op.F != want || op.Key != key || op.Timeout <= 0 {
			t.Errorf("%s: %+v, %v", key, op, ok)
		}
		m, _ := ModelFor(key, "")
		if _, err := m.Parse(history.Operation{
			Invoke:   history.Event{Type: history.Invoke, F: op.F, Key: key, Value: op.Value},
			Complete: history.Event{Type: history.Info, F: op.F, Key: key},
		}); err != nil {
			t.Errorf("%s: its model refuses %s %s: %v", key, op.F, op.Value, err)
		}
	}
	if op, ok := LastWrite(nil); ok {
		t.Errorf("no key: %+v", op)
	}
}
