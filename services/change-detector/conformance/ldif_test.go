package conformance

import (
	"encoding/base64"
	"strings"
)

// line is one line of LDIF.
func line(name, value string) string {
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return name + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
		}
	}
	if strings.HasPrefix(value, " ") || strings.HasPrefix(value, ":") || strings.HasPrefix(value, "<") {
		return name + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
	}
	return name + ": " + value + "\n"
}

func lines(list []attribute) string {
	var b strings.Builder
	for _, a := range list {
		for _, v := range a.values {
			b.WriteString(line(a.name, v))
		}
	}
	return b.String()
}

func add(dn string, attributes []attribute) string {
	return line("dn", dn) + "changetype: add\n" + lines(attributes) + "\n"
}

func remove(dn string) string { return line("dn", dn) + "changetype: delete\n\n" }

// modify is one modification: add, delete or replace.
func modify(dn, how string, a attribute) string {
	return line("dn", dn) + "changetype: modify\n" + how + ": " + a.name + "\n" + lines([]attribute{a}) + "-\n\n"
}

func rename(dn, rdn, superior string) string {
	return line("dn", dn) + "changetype: modrdn\n" + line("newrdn", rdn) + "deleteoldrdn: 1\n" + line("newsuperior", superior) + "\n"
}

// rdn is a relative name, escaped.
func rdn(name, value string) string {
	return name + "=" + strings.NewReplacer(`\`, `\\`, ",", `\,`, "+", `\+`, `"`, `\"`).Replace(value)
}
