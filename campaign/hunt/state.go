package hunt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// stateVersion is the version that a state's first line names.
const stateVersion = 1

// A State is a file of finished tries, so that a hunt can go on where it was
// interrupted: JSON lines, a header first, each durable once it is added. Nil
// is a State that keeps nothing.
type State struct {
	file  *os.File
	tries []Try
}

// A stateHeader says which tries belong together.
type stateHeader struct {
	Version  int    `json:"hunt"`
	In       string `json:"in"`
	Sources  string `json:"sources"`
	Settings string `json:"settings"`
}

// OpenState opens or begins a state for tries of a runner on these sources. One
// of other sources or settings is refused: its tries can't be compared.
func OpenState(name string, s Source, r Runner) (*State, error) {
	want := stateHeader{stateVersion, r.In(), s.Sum(), r.Settings()}
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if whole == 0 && len(text) > 0 && !bytes.HasPrefix(text, []byte(`{"hunt":`)) {
		return nil, fmt.Errorf("%s: %w", name, want.refuse(text))
	}
	text = text[:whole] // a last line may be torn
	tries, err := readState(name, text, want)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	st := &State{file: f, tries: tries}
	if err = f.Truncate(int64(len(text))); err == nil {
		_, err = f.Seek(int64(len(text)), 0)
	}
	if err == nil && len(text) == 0 {
		err = st.append(want)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return st, nil
}

func readState(name string, text []byte, want stateHeader) (tries []Try, err error) {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if number == 1 {
			err = want.refuse(line)
		} else {
			var t Try
			err = json.Unmarshal(line, &t)
			tries = append(tries, t)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	return tries, nil
}

func (want stateHeader) refuse(line []byte) error {
	var got stateHeader
	const remedy = "; remove it, or name another file with --state"
	switch err := json.Unmarshal(line, &got); {
	case err != nil || got.Version != stateVersion:
		return fmt.Errorf("this is no state of a hunt%s", remedy)
	case got.Sources != want.Sources:
		return fmt.Errorf("the sources have changed since this state was begun (%s, now %s)%s", got.Sources, want.Sources, remedy)
	case got.In != want.In || got.Settings != want.Settings:
		return fmt.Errorf("this is a state of a hunt in %s with %s, not in %s with %s%s", got.In, got.Settings, want.In, want.Settings, remedy)
	}
	return nil
}

// Find returns the finished try with that build, system and number.
func (s *State) Find(t Try) (Try, bool) {
	if s != nil {
		for _, have := range s.tries {
			if have.same(t) {
				return have, true
			}
		}
	}
	return t, false
}

// Add keeps a finished try.
func (s *State) Add(t Try) error {
	if s == nil {
		return nil
	}
	s.tries = append(s.tries, t)
	return s.append(t)
}

func (s *State) append(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return s.file.Sync()
}

// Close closes the file.
func (s *State) Close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}
