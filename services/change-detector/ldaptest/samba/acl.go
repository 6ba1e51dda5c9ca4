package samba

import (
	"context"
	_ "embed"
	"os"
	"strings"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

//go:embed acl.py
var aclScript string

// Permit puts an access control entry about an account before the others of
// objects: it wins, be it a permit or a denial. The entry is in the language SDDL,
// with SID for the account: (D;CI;RPLC;;;SID) hides a container and what is below.
// It works on the database, of a running server too.
func (s *Server) Permit(ctx context.Context, account, entry string, objects ...string) error {
	return s.acl(ctx, "add", account, entry, objects)
}

// Revoke takes an entry away that Permit put there.
func (s *Server) Revoke(ctx context.Context, account, entry string, objects ...string) error {
	return s.acl(ctx, "remove", account, entry, objects)
}

func (s *Server) acl(ctx context.Context, action, account, entry string, objects []string) error {
	// Samba's modules are the system's; another Python that comes first has none.
	_, err := scratch.Run(ctx, os.Environ(), strings.Join(objects, "\n"),
		"/usr/bin/python3", "-c", aclScript, s.Path("smb.conf"), action, account, entry)
	return err
}
