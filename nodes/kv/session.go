package kv

// SessionsMax is how many sessions a machine remembers. The one that was used
// longest ago, by log index, is evicted by the entry that opens one more; its
// owner's next command is refused. Only a first command that is delayed past
// the opening of this many others could be applied twice.
const SessionsMax = 1 << 16

// A session is what a machine remembers of one client: its last command.
type session struct {
	id         uint64
	sequence   uint64
	read       bool   // the last command was a Get: it is read anew rather than kept
	result     Result // of the last command otherwise
	prev, next int32  // neighbours in order of use
}

// sessions holds sessions in order of use: a ring through slot 0, whose next is
// the one used longest ago.
type sessions struct {
	slots []session
	at    map[uint64]int32
}

func newSessions() sessions {
	return sessions{slots: make([]session, 1), at: map[uint64]int32{}}
}

// once applies a command unless its session says that it was, or must not be.
func (m *Machine) once(c viewed) Result {
	s := m.sessions.find(c.Session)
	switch {
	case s == nil && c.Sequence > 1:
		return Result{Status: UnknownSession, Index: m.applied}
	case s == nil:
		s = m.sessions.open(c.Session)
	case c.Sequence < s.sequence:
		return Result{Status: StaleSequence, Index: m.applied}
	case c.Sequence == s.sequence:
		return m.again(s, c)
	}
	s.sequence, s.read = c.Sequence, c.Op == Get
	r := m.execute(c)
	s.result = r
	if s.read {
		s.result = Result{}
	}
	return r
}

// again answers a command whose session has just had it. A read changes nothing
// and whoever still waits for it may see a later value; so its answer, which can
// be a long list, need not be kept. The sequence must not hide another operation.
func (m *Machine) again(s *session, c viewed) Result {
	switch {
	case s.read != (c.Op == Get):
		return Result{Status: BadCommand, Index: m.applied}
	case s.read:
		return m.execute(c)
	}
	return s.result
}

// find returns a session and marks it as used; nil where it is unknown.
func (l *sessions) find(id uint64) *session {
	i, ok := l.at[id]
	if !ok {
		return nil
	}
	l.unlink(i)
	l.link(i)
	return &l.slots[i]
}

// open makes a session, in the place of the one used longest ago if there are SessionsMax.
func (l *sessions) open(id uint64) *session {
	i := int32(len(l.slots))
	if len(l.at) == SessionsMax {
		i = l.slots[0].next
		l.unlink(i)
		delete(l.at, l.slots[i].id)
		l.slots[i] = session{}
	} else {
		l.slots = append(l.slots, session{})
	}
	l.slots[i].id = id
	l.at[id] = i
	l.link(i)
	return &l.slots[i]
}

func (l *sessions) unlink(i int32) {
	s := &l.slots[i]
	l.slots[s.prev].next, l.slots[s.next].prev = s.next, s.prev
}

// link makes a session the last in order of use.
func (l *sessions) link(i int32) {
	last := l.slots[0].prev
	l.slots[i].prev, l.slots[i].next = last, 0
	l.slots[last].next, l.slots[0].prev = i, i
}
