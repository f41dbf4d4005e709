//go:build !linux

package docker

import (
	"errors"
	"io"
)

func makeForeignRules() error    { return errors.New("only inside a container") }
func printRules(io.Writer) error { return errors.New("only inside a container") }
