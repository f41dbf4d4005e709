package campaign

import (
	"fmt"
	"time"
)

// A Duration is a time.Duration that files hold as people write it: "1.5s".
type Duration time.Duration

// MarshalText writes "1.5s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "1.5s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write 30s or 1m30s", b)
	}
	*d = Duration(v)
	return nil
}
