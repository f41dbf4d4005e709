package nemesis

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// stepFile is a Step as a plan file holds it, with times as people write them: "1.5s".
type stepFile struct {
	ID      string    `json:"id"`
	At      string    `json:"at"`
	After   Condition `json:"after,omitempty"`
	Within  string    `json:"within,omitempty"`
	Action  Action    `json:"action"`
	Fault   string    `json:"fault,omitempty"`
	Args    Args      `json:"args,omitempty"`
	Victims string    `json:"victims,omitempty"`
	Pick    uint64    `json:"pick,omitempty"`
	Recipe  string    `json:"recipe,omitempty"`
}

// MarshalJSON writes times as "1.5s".
func (s Step) MarshalJSON() ([]byte, error) {
	f := stepFile{s.ID, s.At.String(), s.After, "", s.Action, s.Fault, s.Args, s.Victims, s.Pick, s.Recipe}
	if s.Within != 0 {
		f.Within = s.Within.String()
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads what MarshalJSON wrote, and no other fields.
func (s *Step) UnmarshalJSON(b []byte) error {
	var f stepFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return fmt.Errorf("a step of the schedule: %w", err)
	}
	*s = Step{f.ID, 0, f.After, 0, f.Action, f.Fault, f.Args, f.Victims, f.Pick, f.Recipe}
	var err error
	if s.At, err = parseTime(f.ID, "at", f.At); err != nil {
		return err
	}
	if f.Within != "" {
		s.Within, err = parseTime(f.ID, "within", f.Within)
	}
	return err
}

func parseTime(id, field, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("step %.64q: %s: %.64q is not a time; write 1.5s or 300ms", id, field, text)
	}
	return d, nil
}
