// Package results keeps what runs leave behind: a folder for each, a summary
// that can be listed and gated on, a table, and a page that tells the story.
package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chaos/history"
	"chaos/linearizability"
)

// The files of a run's folder. docs/results.md describes each.
const (
	PlanFile      = "plan.json"
	HistoryFile   = "history.jsonl"
	VerdictFile   = "verdict.json"
	ReportFile    = "report.html"
	PorcupineFile = "porcupine.html"
	NodesFolder   = "nodes"
	LatestLink    = "latest"
)

// SummaryVersion is the version of verdict.json.
const SummaryVersion = 1

// Bounds of reading folders.
const (
	summaryBytesMax = 16 << 20
	foldersMax      = 100_000
	notesMax        = 10_000 // events before the first operation
)

// Exit statuses, the first that holds (also of a process: 64 is wrong usage or input).
const (
	ExitValid   = 0
	ExitInvalid = 1
	ExitHarness = 2
	ExitUnknown = 3
	ExitUsage   = 64
)

// A Summary is verdict.json: what a run was and came to.
type Summary struct {
	Version     int                     `json:"summary"`
	Run         string                  `json:"run"` // the folder's name
	System      string                  `json:"system"`
	Provider    string                  `json:"provider"`
	Network     string                  `json:"network,omitempty"`
	Seed        uint64                  `json:"seed"`
	Nodes       int                     `json:"nodes,omitempty"`
	Workload    string                  `json:"workload,omitempty"`
	Duration    string                  `json:"duration,omitempty"` // of the storm, as planned
	Started     time.Time               `json:"started"`
	Interrupted string                  `json:"interrupted,omitempty"`
	Harness     []string                `json:"harness,omitempty"` // what the harness itself failed to do
	Verdict     linearizability.Verdict `json:"verdict"`
	Figures     history.Figures         `json:"figures"`
	Exit        int                     `json:"exit"`
}

// Grade sets the exit status from verdict and harness failures: a violation
// outranks a failure of the harness, which outranks unknown.
func (s *Summary) Grade() {
	s.Exit = Status(s.Verdict.Outcome)
	if len(s.Harness) > 0 && s.Exit != ExitInvalid {
		s.Exit = ExitHarness
	}
}

// Status is the exit status of an outcome.
func Status(o linearizability.Outcome) int {
	switch o {
	case linearizability.Invalid:
		return ExitInvalid
	case linearizability.Unknown:
		return ExitUnknown
	}
	return ExitValid
}

// Word is the verdict in one word; a harness failure that leaves no verdict of
// its own says so.
func (s Summary) Word() string {
	if s.Exit == ExitHarness {
		return "harness failure"
	}
	return s.Verdict.Outcome.String()
}

// Stopped tells whether somebody interrupted the run, so that there is less of it
// than was planned.
func (s Summary) Stopped() bool { return strings.HasPrefix(s.Interrupted, "interrupted ") }

// Create makes the folder of a new run below root and lets "latest" point to it.
func Create(root, system, provider string, seed uint64, now time.Time) (folder string, err error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("results: %w", err)
	}
	base := fmt.Sprintf("%s-%s-%s-%d", now.UTC().Format("20060102T150405.000Z"), system, provider, seed)
	folder = filepath.Join(root, base)
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", fmt.Errorf("results: %w", err)
	}
	return folder, link(root, base)
}

// link replaces the latest link in one step.
func link(root, base string) error {
	next := filepath.Join(root, fmt.Sprintf(".latest-%d", os.Getpid()))
	err := os.Symlink(base, next)
	if err == nil {
		err = os.Rename(next, filepath.Join(root, LatestLink))
	}
	if err != nil {
		return fmt.Errorf("results: pointing %s to the new run: %w", LatestLink, err)
	}
	return nil
}

// Write puts a file into the folder as a whole: readers see the old or the new one.
func Write(folder, name string, b []byte) error {
	next := filepath.Join(folder, "."+name)
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return fmt.Errorf("results: %w", errors.Join(err, os.Remove(next)))
	}
	if err := os.Rename(next, filepath.Join(folder, name)); err != nil {
		return fmt.Errorf("results: %w", errors.Join(err, os.Remove(next)))
	}
	return nil
}

// Encode writes a summary as verdict.json holds it.
func (s Summary) Encode() []byte {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("results: a summary that can't be written: %v", err))
	}
	return append(b, '\n')
}

// ReadSummary reads the verdict.json of one folder.
func ReadSummary(folder string) (Summary, error) {
	f, err := os.Open(filepath.Join(folder, VerdictFile))
	if err != nil {
		return Summary{}, err
	}
	defer f.Close()
	var s Summary
	if err := json.NewDecoder(io.LimitReader(f, summaryBytesMax)).Decode(&s); err != nil {
		return Summary{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if s.Version != SummaryVersion {
		return Summary{}, fmt.Errorf("%s: summary version %d; this program reads %d", f.Name(), s.Version, SummaryVersion)
	}
	return s, nil
}

// A Listed is one folder below a root: its summary, or why there is none.
type Listed struct {
	Folder  string
	Summary Summary
	Err     error
}

// Why a run has no verdict.
var (
	ErrUnfinished = errors.New("no verdict: the run did not finish; chaos check can judge its history")
	ErrNotBegun   = errors.New("no verdict, and nothing to judge: the run ended before its first operation")
)

// Unjudged tells why a run's folder without a verdict has none.
func Unjudged(folder string) error {
	f, err := os.Open(filepath.Join(folder, HistoryFile))
	if err != nil {
		return ErrNotBegun
	}
	defer f.Close()
	for r, n := history.NewReader(f, f.Name()), 0; n < notesMax; n++ {
		switch e, err := r.Next(); {
		case errors.Is(err, io.EOF):
			return ErrNotBegun
		case err != nil || e.Process != history.Nemesis:
			return ErrUnfinished
		}
	}
	return ErrUnfinished
}

// List reads every run below root, the oldest first. A folder without a verdict
// is listed with the reason.
func List(root string) ([]Listed, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	var out []Listed
	for _, e := range entries[:min(len(entries), foldersMax)] {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		folder := filepath.Join(root, e.Name())
		s, err := ReadSummary(folder)
		if errors.Is(err, os.ErrNotExist) {
			err = Unjudged(folder)
		}
		out = append(out, Listed{folder, s, err})
	}
	slices.SortStableFunc(out, func(a, b Listed) int { return strings.Compare(a.Folder, b.Folder) })
	return out, nil
}
