package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
)

// exitStatus reads the status out of an error of os/exec.
func exitStatus(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strconv.Itoa(exit.ExitCode())
	}
	return fmt.Sprint(err)
}
