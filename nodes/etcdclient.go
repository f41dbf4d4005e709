package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"chaos/history"
)

// etcdRounds bounds how often one operation compares and sets. Each round after
// the first follows an answer that says that the last one changed nothing.
const etcdRounds = 8

// The paths of the gateway that an etcdClient uses.
const (
	etcdRangePath = "/v3/kv/range"
	etcdTxnPath   = "/v3/kv/txn"
)

// An etcdClient speaks history's functions to one member of etcd.
//
// Every change is one transaction that also writes its session's key: the
// sequence, and what came of it. The transaction asks that the session's key
// holds a lower sequence, or for sequence 1 that it is absent. So a command that
// is sent again is not applied again, wherever that happens, and gets its old
// answer; a lower sequence and an unknown session are refused by etcd itself.
type etcdClient struct {
	gate *gateway
	node string
}

// Close drops the connection. The client may be used again.
func (c *etcdClient) Close() error {
	c.gate.close()
	return nil
}

// Do makes one attempt. What it returns grades this attempt alone. A read that
// is not answered failed, whatever the reason.
func (c *etcdClient) Do(ctx context.Context, invoke history.Event) history.Event {
	if invoke.Node == "" {
		invoke.Node = c.node
	}
	if invoke.F == history.Read {
		return c.read(ctx, invoke)
	}
	change, err := etcdChangeOf(invoke)
	if err != nil {
		return ended(invoke, history.Fail, err.Error())
	}
	return c.change(ctx, invoke, change)
}

// The keys in etcd: those of clients, and one for each session.
func etcdKey(key string) string { return "k/" + key }

func etcdSession(session uint64) string { return fmt.Sprintf("s/%016x", session) }

// read asks for one key. The revision that it claims is that of the store as it
// was read, which is the last change that the read can have seen.
func (c *etcdClient) read(ctx context.Context, invoke history.Event) history.Event {
	q, led := etcdRange{Key: []byte(etcdKey(invoke.Key))}, etcdLed
	switch invoke.Mode {
	case ModeLinearizable, "": // the default, which is the first of Modes
	case ModeSerializable:
		q.Serializable, led = true, etcdAlone
	default:
		return ended(invoke, history.Fail, fmt.Sprintf("nodes: etcd has no read mode %q; it has %s and %s", invoke.Mode, ModeLinearizable, ModeSerializable))
	}
	var a etcdAnswer
	if end := c.gate.call(ctx, etcdRangePath, led, q, &a); end != nil {
		return ended(invoke, history.Fail, end.why)
	}
	kv, ok := a.found()
	if !ok || a.Header.Revision == 0 {
		return ended(invoke, history.Fail, "garbled answer: no range of one key")
	}
	return finished(invoke, kv.json(), a.Header.Revision)
}

func finished(invoke history.Event, value []byte, at uint64) history.Event {
	invoke.Type, invoke.Value, invoke.At, invoke.Error = history.Ok, value, at, ""
	return invoke
}

// json is the key's value as histories hold it.
func (kv etcdKV) json() json.RawMessage {
	if kv.Modified == 0 {
		return null
	}
	return appendText(nil, kv.Value)
}

// An etcdChange is a command that changes a key.
type etcdChange struct {
	// next is what the key is to hold and what the answer is to be, given what
	// it holds; only for what depends on that. An error means that it can't be done.
	next func(held []byte) (value, result []byte, err error)

	value    []byte // to store; nil deletes
	result   []byte // the answer, as JSON
	swap     bool   // only where the key holds from
	from     []byte // nil: where it is absent
	sequence uint64
}

// etcdChangeOf reads an invocation. An error means that nothing can be sent.
func etcdChangeOf(invoke history.Event) (c etcdChange, err error) {
	v := bytes.TrimSpace(invoke.Value)
	c.result, c.sequence = null, invoke.Sequence
	switch invoke.F {
	case history.Write:
		c.value, err = stored(v)
		c.result = c.value
	case history.Delete:
	case history.CAS:
		c.swap = true
		if c.from, c.value, _, err = casValues(v); err == nil {
			c.result = swapJSON(true, c.from)
		}
	case history.Add:
		c.next, err = adder(v)
	case history.Append:
		c.next, err = appender(v)
	default:
		err = fmt.Errorf("nodes: etcd's client has no function %q", invoke.F)
	}
	if err == nil && (invoke.Session == 0 || invoke.Sequence == 0) {
		err = errors.New("nodes: a change needs a session and a sequence")
	}
	return c, err
}

// adder adds to a number; an absent one counts as 0. A sum that 64 bits don't
// hold is refused, as is adding to what is no number.
func adder(v []byte) (func([]byte) ([]byte, []byte, error), error) {
	delta, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return nil, err
	}
	return func(held []byte) ([]byte, []byte, error) {
		n, err := strconv.ParseInt(string(orDefault(held, "0")), 10, 64)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("wrong type: %.32q is no number", held)
		case delta > 0 && n > math.MaxInt64-delta, delta < 0 && n < math.MinInt64-delta:
			return nil, nil, errors.New("too long: 64 bits do not hold the sum")
		}
		sum := strconv.AppendInt(nil, n+delta, 10)
		return sum, sum, nil
	}, nil
}

// appender puts an element at the end of a list; an absent one is empty. It
// answers with the list's new length.
func appender(v []byte) (func([]byte) ([]byte, []byte, error), error) {
	element, err := stored(v)
	if err != nil {
		return nil, err
	}
	return func(held []byte) ([]byte, []byte, error) {
		var list []json.RawMessage
		if err := json.Unmarshal(orDefault(held, "[]"), &list); err != nil {
			return nil, nil, fmt.Errorf("wrong type: %.32q is no list", held)
		}
		value, err := json.Marshal(append(list, element))
		return value, strconv.AppendInt(nil, int64(len(list)+1), 10), err
	}, nil
}

func orDefault(held []byte, absent string) []byte {
	if held == nil {
		return []byte(absent)
	}
	return held
}

func swapJSON(swapped bool, saw []byte) []byte {
	b := strconv.AppendBool([]byte(`{"swapped":`), swapped)
	b = append(b, `,"saw":`...)
	return append(append(b, orDefault(saw, "null")...), '}')
}

// change sends the transaction. What depends on what the key holds looks at it
// first, in the member's own state: the transaction finds out whether that is old.
func (c *etcdClient) change(ctx context.Context, invoke history.Event, ch etcdChange) history.Event {
	key, session := etcdKey(invoke.Key), etcdSession(invoke.Session)
	var held etcdKV
	if ch.next != nil {
		a, end := c.look(ctx, session, key, ModeSerializable)
		s, _ := a.ranged(0) // nonsense is found out by the transaction
		if last, _, sane := recall(s.Value); sane && last >= ch.sequence {
			// A copy: the key may hold anything by now. Where the session stands must not be old.
			if a, end = c.look(ctx, session, key, ModeLinearizable); end == nil {
				if done, again := c.unmet(ctx, invoke, &ch, a); !again {
					return done
				}
			}
		}
		if end != nil {
			return ended(invoke, history.Fail, "looking first: "+end.why)
		}
		held, _ = a.ranged(1)
	}
	for range etcdRounds {
		q, err := ch.txn(key, session, held)
		if err != nil {
			return ended(invoke, history.Fail, err.Error())
		}
		var a etcdAnswer
		if end := c.gate.call(ctx, etcdTxnPath, etcdLed, q, &a); end != nil && end.certain {
			return ended(invoke, history.Fail, end.why)
		} else if end != nil {
			return ended(invoke, history.Info, end.why)
		}
		done, again := c.settle(ctx, invoke, &ch, a)
		if !again {
			return done
		}
		held, _ = a.ranged(1)
	}
	return ended(invoke, history.Fail, fmt.Sprintf("contended: others changed the key in each of %d rounds", etcdRounds))
}

// look reads a session and a key at one revision.
func (c *etcdClient) look(ctx context.Context, session, key, mode string) (a etcdAnswer, end *etcdEnd) {
	s, k := rangeOp(session), rangeOp(key)
	old := mode == ModeSerializable
	s.Range.Serializable, k.Range.Serializable = old, old
	end = c.gate.call(ctx, etcdTxnPath, !old, etcdTxn{Success: []etcdOp{s, k}}, &a)
	return a, end
}

// txn is the change as a transaction. Its answer is in ch.result, unless a swap
// finds another value: then the session's key tells only that it did.
func (ch *etcdChange) txn(key, session string, held etcdKV) (q etcdTxn, err error) {
	q.Compare = []etcdCompare{unchanged(session, 0)}
	if ch.sequence > 1 {
		q.Compare[0] = etcdCompare{Result: "LESS", Target: "VALUE", Key: []byte(session), Value: remember(ch.sequence, nil)}
	}
	q.Failure = []etcdOp{rangeOp(session), rangeOp(key)}
	if ch.next != nil {
		q.Compare = append(q.Compare, unchanged(key, held.Modified))
		if ch.value, ch.result, err = ch.next(held.Value); err != nil {
			return q, err
		}
	}
	set := putOp(key, ch.value)
	if ch.value == nil {
		set = etcdOp{Delete: &etcdRange{Key: []byte(key)}}
	}
	q.Success = []etcdOp{putOp(session, remember(ch.sequence, ch.result)), set}
	if ch.swap {
		q.Success = []etcdOp{{Txn: &etcdTxn{
			Compare: []etcdCompare{ch.expects(key)},
			Success: q.Success,
			Failure: []etcdOp{putOp(session, remember(ch.sequence, nil)), rangeOp(key)},
		}}}
	}
	return q, nil
}

func (ch *etcdChange) expects(key string) etcdCompare {
	if ch.from == nil {
		return unchanged(key, 0)
	}
	return etcdCompare{Result: "EQUAL", Target: "VALUE", Key: []byte(key), Value: ch.from}
}

// remember is what a session's key holds: a sequence, in an order that is that
// of bytes, and the answer that it got, nothing for a swap that found another value.
func remember(sequence uint64, result []byte) []byte {
	return append(fmt.Appendf(nil, "%016x", sequence), result...)
}

// recall reads what remember wrote.
func recall(b []byte) (sequence uint64, result []byte, ok bool) {
	const digits = 16
	if len(b) < digits {
		return 0, nil, false
	}
	sequence, err := strconv.ParseUint(string(b[:digits]), 16, 64)
	return sequence, b[digits:], err == nil
}

const garbledTxn = "garbled answer: no such transaction"

// settle reads the answer of a transaction. again says that it certainly changed
// nothing, because the key had changed meanwhile.
func (c *etcdClient) settle(ctx context.Context, invoke history.Event, ch *etcdChange, a etcdAnswer) (done history.Event, again bool) {
	switch {
	case a.Header.Revision == 0:
		return ended(invoke, history.Info, garbledTxn), false
	case a.Succeeded:
		return succeeded(invoke, ch, a), false
	}
	return c.unmet(ctx, invoke, ch, a)
}

// unmet tells from the session and the key why they did not meet a transaction's
// conditions.
func (c *etcdClient) unmet(ctx context.Context, invoke history.Event, ch *etcdChange, a etcdAnswer) (done history.Event, again bool) {
	s, ok := a.ranged(0)
	if _, other := a.ranged(1); !ok || !other {
		return ended(invoke, history.Info, garbledTxn), false
	}
	last, result, sane := recall(s.Value)
	switch {
	case s.Modified == 0 && ch.sequence > 1 && invoke.Attempts > 1: // an attempt before may have been executed
		return ended(invoke, history.Info, "unknown session"), false
	case s.Modified == 0 && ch.sequence > 1:
		return ended(invoke, history.Fail, "unknown session"), false
	case s.Modified > 0 && !sane:
		return ended(invoke, history.Info, "garbled answer: the session's key holds no sequence"), false
	case s.Modified > 0 && last > ch.sequence:
		return ended(invoke, history.Info, fmt.Sprintf("stale sequence: the session is at %d", last)), false
	case s.Modified > 0 && last == ch.sequence:
		return c.before(ctx, invoke, s, result), false
	case ch.next == nil: // nothing else can have kept it from happening
		return ended(invoke, history.Info, garbledTxn), false
	}
	return done, true
}

// succeeded is the answer to a command that this attempt executed.
func succeeded(invoke history.Event, ch *etcdChange, a etcdAnswer) history.Event {
	if !ch.swap {
		return finished(invoke, ch.result, a.Header.Revision)
	}
	if len(a.Responses) != 1 || a.Responses[0].Txn == nil {
		return ended(invoke, history.Info, garbledTxn)
	}
	inner := a.Responses[0].Txn
	if inner.Succeeded {
		return finished(invoke, ch.result, a.Header.Revision)
	}
	saw, ok := inner.ranged(1)
	if !ok {
		return ended(invoke, history.Info, garbledTxn)
	}
	return finished(invoke, swapJSON(false, saw.json()), a.Header.Revision)
}

// before answers a command that an earlier attempt executed, at the revision
// that it was executed at. What a swap saw that found another value is what the
// key held then: etcd keeps old revisions.
func (c *etcdClient) before(ctx context.Context, invoke history.Event, s etcdKV, result []byte) history.Event {
	if len(result) > 0 {
		return finished(invoke, result, s.Modified)
	}
	var a etcdAnswer
	if end := c.gate.call(ctx, etcdRangePath, etcdLed, etcdRange{Key: []byte(etcdKey(invoke.Key)), Revision: s.Modified}, &a); end != nil {
		return ended(invoke, history.Info, "what the swap saw is not known: "+end.why)
	}
	saw, ok := a.found()
	if !ok {
		return ended(invoke, history.Info, "garbled answer: no range of one key")
	}
	return finished(invoke, swapJSON(false, saw.json()), s.Modified)
}
