package workload

import "testing"

func TestCounterModel(t *testing.T) {
	steps(t, Counter().Model, []stepCase{
		{"null", "add", "3", "ok", "3", "3"},
		{"4", "add", "3", "ok", "7", "7"},
		{"4", "add", "3", "ok", "10", ""},
		{"4", "add", "-5", "ok", "-1", "-1"},
		{"4", "add", "3", "ok", "null", "7"},
		{"4", "add", "3", "info", "", "7"},
		{"5", "read", "null", "ok", "4", ""},
		{"5", "read", "null", "ok", "5", "5"},
		{"9223372036854775807", "add", "1", "ok", "-9223372036854775808", ""},
		{"9223372036854775807", "add", "1", "info", "", "9223372036854775807"},
	})
}
