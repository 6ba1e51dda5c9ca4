package ldaptest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLibraries(t *testing.T) {
	t.Parallel()
	const listing = `	linux-vdso.so.1 (0x00007ffd)
	libldap-2.5.so.0 => /lib/x86_64-linux-gnu/libldap-2.5.so.0 (0x00007f26)
	libwrap.so.0 => /root/.cache/slapd/usr/lib/x86_64-linux-gnu/libwrap.so.0 (0x00007f27)
	/lib64/ld-linux-x86-64.so.2 (0x00007f28)
`
	want := []string{"/lib/x86_64-linux-gnu/libldap-2.5.so.0", "/root/.cache/slapd/usr/lib/x86_64-linux-gnu/libwrap.so.0", "/lib64/ld-linux-x86-64.so.2"}
	if diff := cmp.Diff(want, libraries(listing)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
