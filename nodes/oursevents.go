package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"chaos/history"
	"chaos/nodes/kv"
)

// The read modes of our own nodes, as histories name them.
const (
	ModeLog   = "log"   // the read is an entry of the log
	ModeIndex = "index" // a quorum confirms an index, then the node reads its own state
)

// oursClient speaks history's functions to one of our own nodes.
type oursClient struct {
	kv   *KVClient
	node string
}

// Do makes one attempt. What it returns grades this attempt alone: that the
// session is unknown or has gone on is doubtful where invoke.Attempts says that
// there were attempts before. A read that is not answered failed, whatever the reason.
func (c *oursClient) Do(ctx context.Context, invoke history.Event) history.Event {
	if invoke.Node == "" {
		invoke.Node = c.node
	}
	mode, command, err := CommandOf(invoke)
	if err != nil {
		return ended(invoke, history.Fail, err.Error())
	}
	return Completion(invoke, c.kv.Do(ctx, mode, command))
}

// Close drops the connection.
func (c *oursClient) Close() error { return c.kv.Close() }

// CommandOf is the command of an invocation, and the way that it takes. Written
// values are stored as the JSON that they are, so that numbers can be added to,
// but without its white space, so that equal values are equal texts.
// The command may alias the event's value. An error means that nothing can be sent.
func CommandOf(invoke history.Event) (kv.Mode, kv.Command, error) {
	c := kv.Command{Session: invoke.Session, Sequence: invoke.Sequence, Key: invoke.Key}
	v := bytes.TrimSpace(invoke.Value)
	var err error
	switch invoke.F {
	case history.Read:
		c.Op = kv.Get
		mode, err := modeOf(invoke.Mode)
		return mode, c, err
	case history.Write:
		c.Op = kv.Put
		c.Value, err = stored(v)
	case history.CAS:
		c.Op = kv.CAS
		c.Old, c.Value, c.OldAbsent, err = casValues(v)
	case history.Delete:
		c.Op = kv.Delete
	case history.Add:
		c.Op = kv.Add
		c.Delta, err = strconv.ParseInt(string(v), 10, 64)
	case history.Append:
		c.Op = kv.Append
		c.Value, err = stored(v)
	default:
		err = fmt.Errorf("nodes: our nodes have no function %q", invoke.F)
	}
	return kv.ModeLog, c, err
}

func modeOf(mode string) (kv.Mode, error) {
	switch mode {
	case ModeIndex, "": // the default, which is the first of Modes
		return kv.ModeIndex, nil
	case ModeLog:
		return kv.ModeLog, nil
	}
	return 0, fmt.Errorf("nodes: our nodes have no read mode %q; they have %s and %s", mode, ModeIndex, ModeLog)
}

// casValues reads [from,to]. From may be null, which means absent.
func casValues(v []byte) (from, to []byte, absent bool, err error) {
	from, to, ok := simplePair(v)
	if !ok {
		var pair []json.RawMessage
		if err := json.Unmarshal(v, &pair); err != nil || len(pair) != 2 {
			return nil, nil, false, fmt.Errorf("nodes: a compare-and-set takes [from,to], not %.64q", v)
		}
		from, to = pair[0], pair[1]
	}
	if to, err = stored(to); err != nil {
		return nil, nil, false, err
	}
	if string(from) == "null" {
		return nil, to, true, nil
	}
	from, err = stored(from)
	return from, to, false, err
}

// simplePair reads [from,to] where both are integers or null, which they nearly always are.
func simplePair(v []byte) (a, b []byte, ok bool) {
	if len(v) < 2 || v[0] != '[' || v[len(v)-1] != ']' {
		return nil, nil, false
	}
	a, b, ok = bytes.Cut(v[1:len(v)-1], []byte{','})
	a, b = bytes.TrimSpace(a), bytes.TrimSpace(b)
	return a, b, ok && (integer(a) || string(a) == "null") && (integer(b) || string(b) == "null")
}

// stored is a value as the store holds it. It refuses null, which means absent,
// and what is no JSON.
func stored(v []byte) ([]byte, error) {
	if integer(v) {
		return v, nil
	}
	var compact bytes.Buffer
	if string(v) == "null" || json.Compact(&compact, v) != nil {
		return nil, fmt.Errorf("nodes: %.64q can't be stored; a value is JSON and not null", v)
	}
	return compact.Bytes(), nil
}

// integer tells whether b is an integer as JSON writes it.
func integer(b []byte) bool {
	if len(b) > 1 && b[0] == '-' {
		b = b[1:]
	}
	if len(b) == 0 || (b[0] == '0' && len(b) > 1) {
		return false
	}
	for _, d := range b {
		if d < '0' || d > '9' {
			return false
		}
	}
	return true
}

// Completion is what a response tells about an invocation. Its Value is its own
// copy; of what was not answered there is none.
func Completion(invoke history.Event, r kv.Response) history.Event {
	switch grade := r.After(max(invoke.Attempts, 1)); {
	case grade == kv.Answered:
		return answered(invoke, r.Result)
	case grade == kv.Refused, invoke.F == history.Read:
		return ended(invoke, history.Fail, Explain(r))
	}
	return ended(invoke, history.Info, Explain(r))
}

func ended(invoke history.Event, t history.Type, why string) history.Event {
	invoke.Type, invoke.Value, invoke.Error = t, nil, why
	return invoke
}

// Explain is the response in words: "no leader", "busy: 4096 in flight (n2 leads)".
func Explain(r kv.Response) string {
	s := r.Code.String()
	if r.Text != "" && r.Text != s {
		s += ": " + r.Text
	}
	if r.Leader != 0 {
		s += " (" + r.Leader.String() + " leads)"
	}
	return s
}

var null = json.RawMessage("null")

// answered turns a result into the value that history's functions define. A
// result that can't be one is the node's mistake: then nothing is certain.
func answered(invoke history.Event, r kv.Result) history.Event {
	done, ok := invoke, true
	done.Type, done.At, done.Error = history.Ok, r.Index, ""
	switch invoke.F {
	case history.Read:
		done.Value = valueJSON(r.Value)
	case history.Delete:
		done.Value = null
	case history.CAS:
		done.Value = casJSON(r)
	case history.Add, history.Append:
		ok = r.Value.Kind == kv.Text && integer(r.Value.Text)
		done.Value = bytes.Clone(r.Value.Text)
	}
	if !ok {
		return ended(invoke, history.Info, "garbled answer: no number")
	}
	return done
}

func valueJSON(v kv.Value) json.RawMessage {
	if v.Kind == kv.Absent {
		return null
	}
	return appendJSON(nil, v)
}

func casJSON(r kv.Result) json.RawMessage {
	b := make([]byte, 0, 32+len(r.Value.Text))
	b = append(b, `{"swapped":`...)
	b = strconv.AppendBool(b, r.Swapped)
	b = append(b, `,"saw":`...)
	return append(appendJSON(b, r.Value), '}')
}

func appendJSON(b []byte, v kv.Value) []byte {
	switch v.Kind {
	case kv.Text:
		return appendText(b, v.Text)
	case kv.List:
		b = append(b, '[')
		for i, e := range v.List {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, e)
		}
		return append(b, ']')
	}
	return append(b, null...)
}

// appendText writes a stored text on one line: as it is where it is JSON, else as a string.
func appendText(b, text []byte) []byte {
	if integer(text) {
		return append(b, text...)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, text) == nil {
		return append(b, compact.Bytes()...)
	}
	quoted, err := json.Marshal(string(text))
	if err != nil {
		panic(fmt.Sprintf("nodes: a string of %d bytes can't be written as JSON: %v", len(text), err))
	}
	return append(b, quoted...)
}
