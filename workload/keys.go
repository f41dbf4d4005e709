package workload

import (
	"math"
	"strconv"
	"time"
)

// The lives of keys. Few clients on many keys keep judging cheap; keys that
// outlive a fault show what it did.
const (
	KeysMax      = 4096             // keys of one run; past them none is rotated any more
	keyOps       = 400              // operations on a key, by default, before it is rotated
	keyLife      = 4 * time.Second  // how long a key is hot by default
	keyAgeMax    = 12 * time.Second // no key is hot longer, windows or not
	keepAfter    = 2 * time.Second  // after a heal
	keepStagger  = time.Second      // and up to so much more, drawn for each key
	keptMax      = 3                // keys a lane keeps beside its hot one
	keptOneIn    = 16               // operations that go to a kept key
	openMax      = 8                // writes with an unknown end; they are what makes judging dear
	growthKeys   = 512              // with each so many keys more, new ones take keyOps more
	oldReadOneIn = 20               // reads that go to any key of the run
)

// A key is one key that is or was hot.
type key struct {
	name    string
	m       *manner
	born    time.Duration
	life    time.Duration // without windows
	slack   time.Duration // how much longer than keepAfter it is kept, so that not all go at once
	limit   int           // operations
	ops     int
	open    int   // writes with an unknown end
	seen    Value // the last value observed
	written bool  // set: its element was written, perhaps
	used    bool
}

// A lane is a place for one hot key after the other.
type lane struct {
	hot  *key
	kept []*key // rotated within a window, and not to be forgotten yet
	turn int    // which manner comes next
}

// key gives the lane's hot key, after rotation, or now and then one it keeps.
func (l *load) key(n *lane, now time.Duration) *key {
	if n.hot == nil || l.spent(n.hot, now) {
		l.rotate(n, now)
	}
	if len(n.kept) > 0 && l.r.IntN(keptOneIn) == 0 {
		i := l.r.IntN(len(n.kept))
		k := n.kept[i]
		if k.ops < 2*k.limit && l.keeps(k, now) {
			return k
		}
		n.kept = append(n.kept[:i], n.kept[i+1:]...)
	}
	return n.hot
}

// spent tells whether a hot key has to go.
func (l *load) spent(k *key, now time.Duration) bool {
	if k.ops >= k.limit || k.open >= openMax {
		return true
	}
	return now-k.born >= k.life && !l.keeps(k, now)
}

// keeps tells whether a fault lives that the key may tell about, or lived until
// a short time ago.
func (l *load) keeps(k *key, now time.Duration) bool {
	if k.open >= openMax || now-k.born >= keyAgeMax {
		return false
	}
	if len(l.windows) > 0 {
		return true
	}
	return k.born <= l.healed && now < l.healed+keepAfter+k.slack
}

// rotate puts a new key in the hot one's place. Of the keys to keep the first
// stays, which was hot when the fault struck, and the newest ones.
func (l *load) rotate(n *lane, now time.Duration) {
	if l.keys >= KeysMax && n.hot != nil {
		return
	}
	if n.hot != nil && l.keeps(n.hot, now) {
		if len(n.kept) == keptMax {
			n.kept = append(n.kept[:1], n.kept[2:]...)
		}
		n.kept = append(n.kept, n.hot)
	}
	m := &l.manners[n.turn%len(l.manners)]
	n.turn++
	l.keys++
	n.hot = &key{
		name:  m.name + "/" + strconv.Itoa(l.keys),
		m:     m,
		born:  now,
		life:  l.stagger(l.o.KeyLife),
		slack: time.Duration(l.r.Int64N(int64(keepStagger))),
		limit: l.limit(m),
	}
}

// limit is how many operations a new key takes. Long fast runs would use keys
// without end, so keys grow with their number.
func (l *load) limit(m *manner) int {
	if l.o.KeyOps < 0 {
		return math.MaxInt / 4
	}
	base := max(1, l.o.KeyOps/max(1, m.divide))
	base += base * (l.keys / growthKeys)
	return max(1, int(l.stagger(time.Duration(base))))
}

// stagger draws from half of t to one and a half of it.
func (l *load) stagger(t time.Duration) time.Duration {
	return t/2 + time.Duration(l.r.Int64N(int64(max(1, t))))
}

// use counts an operation on the key.
func (l *load) use(k *key) {
	k.ops++
	if !k.used {
		k.used = true
		l.used = append(l.used, k.name)
	}
}

// UsedKeys lists the keys in order of first use.
func (l *load) UsedKeys() []string { return append([]string(nil), l.used...) }
