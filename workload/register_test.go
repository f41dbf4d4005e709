package workload

import "testing"

func TestRegisterModel(t *testing.T) {
	steps(t, Register().Model, []stepCase{
		{"null", "read", "null", "ok", "null", "absent"},
		{"null", "read", "null", "ok", "1", ""},
		{"1", "read", "null", "ok", "1", "1"},
		{"1", "read", "null", "ok", "null", ""},
		{"1", "read", "null", "ok", "[1]", ""},
		{"1", "read", "null", "info", "", "1"},
		{"1", "write", "2", "ok", "2", "2"},
		{"1", "write", "2", "ok", "null", "2"},
		{"1", "write", "2", "info", "", "2"},
	})
}
