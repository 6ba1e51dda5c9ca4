package main

import (
	"encoding/base64"
	"strings"
)

// attribute is a name with a value.
type attribute struct{ name, value string }

// line is one line of LDIF; what is not plain is base64.
func line(name, value string) string {
	for i := range len(value) {
		c := value[i]
		first := i == 0 && (c == ' ' || c == ':' || c == '<')
		if first || c < ' ' || c > '~' || i == len(value)-1 && c == ' ' {
			return name + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
		}
	}
	return name + ": " + value + "\n"
}

// content is a record with an entry; empty values are left out.
func content(dn string, attributes []attribute) string {
	var b strings.Builder
	b.WriteString(line("dn", dn))
	for _, a := range attributes {
		if a.value != "" {
			b.WriteString(line(a.name, a.value))
		}
	}
	return b.String() + "\n"
}

// modification is one part of a modify record.
type modification struct {
	op, attribute string
	values        []string
}

func replace(attribute string, values ...string) modification {
	return modification{"replace", attribute, values}
}

func add(attribute string, values ...string) modification {
	return modification{"add", attribute, values}
}

func drop(attribute string, values ...string) modification {
	return modification{"delete", attribute, values}
}

// modify is a change record for an entry's attributes.
func modify(dn string, modifications ...modification) string {
	var b strings.Builder
	b.WriteString(line("dn", dn) + "changetype: modify\n")
	for _, m := range modifications {
		b.WriteString(line(m.op, m.attribute))
		for _, value := range m.values {
			b.WriteString(line(m.attribute, value))
		}
		b.WriteString("-\n")
	}
	return b.String() + "\n"
}

// rename is a change record for an entry's name.
func rename(dn, rdn string) string {
	return line("dn", dn) + "changetype: modrdn\n" + line("newrdn", rdn) + "deleteoldrdn: 1\n\n"
}

// remove is a change record that deletes an entry.
func remove(dn string) string { return line("dn", dn) + "changetype: delete\n\n" }

// escape makes a value safe inside a distinguished name.
func escape(value string) string {
	var b strings.Builder
	for i, c := range value {
		if strings.ContainsRune(`,+"\<>;=`, c) || i == 0 && (c == '#' || c == ' ') {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
