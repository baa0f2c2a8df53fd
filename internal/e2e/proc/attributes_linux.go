package proc

import "syscall"

// attributes: a group of its own, and no life after this program's.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
