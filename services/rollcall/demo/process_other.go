//go:build !linux

package main

import "syscall"

// dieWithParent keeps the terminal's Ctrl-C from a program: it is stopped in order.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
