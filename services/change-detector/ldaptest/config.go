package ldaptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// modules are loaded where they are not built in.
var modules = []string{"back_mdb", "syncprov", "memberof", "refint"}

// writeConfig writes slapd.conf, the simplest form to vary.
func (s *Server) writeConfig() error {
	var b strings.Builder
	for _, name := range []string{"core", "cosine", "nis", "inetorgperson", "dyngroup"} {
		fmt.Fprintf(&b, "include %s\n", filepath.Join(s.install.schema, name+".schema"))
	}
	b.WriteString(s.opts.ExtraSchema + "\n")
	b.WriteString("loglevel none\nthreads 4\n")
	if s.install.modules != "" {
		fmt.Fprintf(&b, "modulepath %s\n", s.install.modules)
		for _, name := range modules {
			fmt.Fprintf(&b, "moduleload %s\n", name)
		}
	}
	if s.opts.TLS {
		fmt.Fprintf(&b, "TLSCACertificateFile %s\nTLSCertificateFile %s\nTLSCertificateKeyFile %s\nTLSVerifyClient allow\n",
			s.CAFile, s.path("server.pem"), s.path("server.key"))
		fmt.Fprintf(&b, "authz-regexp \"^cn=reader$\" %q\n", s.ReaderDN)
	}
	for _, line := range s.opts.GlobalACL {
		b.WriteString(line + "\n")
	}
	b.WriteString(s.database())
	if err := os.WriteFile(s.path("slapd.conf"), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return nil
}

func (s *Server) database() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\ndatabase mdb\nsuffix %q\nrootdn %q\nrootpw %s\n", s.Suffix, s.AdminDN, s.AdminPassword)
	fmt.Fprintf(&b, "directory %s\nmaxsize 4294967296\nenvflags nosync\n", s.path("db"))
	b.WriteString("index objectClass,entryUUID,entryCSN,uid,cn,mail,member eq\n")
	fmt.Fprintf(&b, "limits dn.exact=%q size=unlimited time=unlimited\n", s.ReaderDN)
	b.WriteString(s.limits())
	for _, line := range s.opts.ACL {
		b.WriteString(line + "\n")
	}
	b.WriteString("access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n")
	if s.opts.MemberOf == "overlay" {
		b.WriteString("overlay memberof\nmemberof-group-oc groupOfNames\nmemberof-member-ad member\n" +
			"memberof-memberof-ad memberOf\nmemberof-refint TRUE\nmemberof-dangling ignore\n")
		fmt.Fprintf(&b, "overlay refint\nrefint_attributes member\nrefint_nothing %q\n", s.AdminDN)
	}
	if !s.opts.NoSync {
		b.WriteString("overlay syncprov\nsyncprov-checkpoint 100 1\n")
		if s.opts.SessionLog > 0 {
			fmt.Fprintf(&b, "syncprov-sessionlog %d\n", s.opts.SessionLog)
		}
	}
	return b.String()
}

// limits are those of the limited account.
func (s *Server) limits() string {
	size := strconv.Itoa(s.opts.SizeLimit)
	switch {
	case s.opts.SizeLimit == 0:
		size = "500"
	case s.opts.SizeLimit < 0:
		size = "unlimited"
	}
	line := fmt.Sprintf("limits dn.exact=%q size.soft=%[2]s size.hard=%[2]s size.prtotal=%[2]s", s.LimitedDN, size)
	if s.opts.PageLimit > 0 {
		line += fmt.Sprintf(" size.pr=%d", s.opts.PageLimit)
	}
	return line + "\n"
}

// baseTree is what every server holds: people, groups and the accounts.
func (s *Server) baseTree() string {
	rdn, _, _ := strings.Cut(s.Suffix, ",")
	_, dc, _ := strings.Cut(rdn, "=")
	var b strings.Builder
	fmt.Fprintf(&b, "dn: %s\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: %s\n", s.Suffix, dc)
	for _, ou := range []string{"people", "groups", "system"} {
		fmt.Fprintf(&b, "\ndn: ou=%[1]s,%[2]s\nobjectClass: organizationalUnit\nou: %[1]s\n", ou, s.Suffix)
	}
	for _, cn := range []string{"reader", "limited"} {
		fmt.Fprintf(&b, "\ndn: cn=%[1]s,ou=system,%[2]s\nobjectClass: organizationalRole\n"+
			"objectClass: simpleSecurityObject\ncn: %[1]s\nuserPassword: %[1]s\n", cn, s.Suffix)
	}
	return b.String()
}
