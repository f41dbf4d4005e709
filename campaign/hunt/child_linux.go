package hunt

import "syscall"

// mortal lets a child die with us.
func mortal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
