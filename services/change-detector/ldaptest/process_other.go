//go:build !linux

package ldaptest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
