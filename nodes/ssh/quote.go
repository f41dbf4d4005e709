package ssh

import (
	"errors"
	"strings"
)

// maxCommand bounds one command line, in bytes.
const maxCommand = 64 << 10

var (
	errNul         = errors.New("ssh: a word of a command holds a zero byte, which no shell can pass on")
	errLongCommand = errors.New("ssh: a command line is longer than 64 KiB")
)

// commandLine makes one line for a login shell of words that must reach the
// program exactly as they are. It is the only place where a line is put together.
//
// The shell belongs to the host's user, so what sh, csh and fish read
// differently is kept out of quotes: backslashes, single quotes, exclamation marks.
func commandLine(words ...string) (string, error) {
	var b strings.Builder
	for i, w := range words {
		if strings.IndexByte(w, 0) >= 0 {
			return "", errNul
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		quote(&b, w)
		if b.Len() > maxCommand {
			return "", errLongCommand
		}
	}
	return b.String(), nil
}

func quote(b *strings.Builder, word string) {
	if word == "" {
		b.WriteString("''")
		return
	}
	if strings.Trim(word, plain) == "" {
		b.WriteString(word)
		return
	}
	quoted := false
	toggle := func(want bool) {
		if quoted != want {
			b.WriteByte('\'')
			quoted = want
		}
	}
	for i := range len(word) {
		switch c := word[i]; c {
		case '\'', '\\', '!':
			toggle(false)
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			toggle(true)
			b.WriteByte(c)
		}
	}
	toggle(false)
}

// plain are the bytes that mean nothing to any shell, wherever they stand.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,"
