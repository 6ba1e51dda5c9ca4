package main

import "syscall"

// dieWithParent lets a program end with this one, even when that is killed, and
// keeps the terminal's Ctrl-C from it: it is stopped in order.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
