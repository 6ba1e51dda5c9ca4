package connection

import "fmt"

// preset is what is particular about one kind of directory.
type preset struct {
	name        string
	id          IDAttribute
	userFilter  string
	enabled     string
	groupFilter string
	userName    string
	department  string
	employee    string
	primary     string // attribute of the primary group
}

const (
	inetOrgPerson = "(objectClass=inetOrgPerson)"
	groupOfNames  = "(objectClass=groupOfNames)"
	// notBuiltIn leaves out the accounts and groups that every domain has.
	notBuiltIn = "(!(isCriticalSystemObject=TRUE))"
)

// presets are the kinds of directories that are known, the common one first.
// Expressions that decide who is enabled fail, and so hold the entry, where the
// directory always has an attribute and it cannot be read.
func presets() []preset {
	return []preset{
		{
			name: PresetOpenLDAP, id: IDAttribute{Attribute: "entryUUID", Encoding: EncodingText},
			userFilter: inetOrgPerson, enabled: "true", groupFilter: groupOfNames,
			userName: "user.uid", department: "user.departmentNumber", employee: "user.employeeNumber",
		},
		{
			name: PresetActiveDirectory, id: IDAttribute{Attribute: "objectGUID", Encoding: EncodingMicrosoft},
			userFilter:  "(&(objectClass=user)(!(objectClass=computer))" + notBuiltIn + ")",
			enabled:     `math.bitAnd(int(user.?userAccountControl.orValue("unreadable")), 2) == 0`,
			groupFilter: "(&(objectClass=group)" + notBuiltIn + ")",
			userName:    "user.?userPrincipalName.orValue(user.sAMAccountName)",
			department:  "user.department", employee: "user.employeeID", primary: "primaryGroupID",
		},
		{
			name: Preset389DS, id: IDAttribute{Attribute: "nsUniqueId", Encoding: EncodingText},
			userFilter: inetOrgPerson, enabled: `user.?nsAccountLock.orValue("false").lowerAscii() != "true"`, groupFilter: groupOfNames,
			userName: "user.uid", department: "user.departmentNumber", employee: "user.employeeNumber",
		},
		{
			name: PresetPingDirectory, id: IDAttribute{Attribute: "entryUUID", Encoding: EncodingText},
			userFilter: inetOrgPerson, enabled: "user.?`ds-pwp-account-disabled`.orValue(\"false\").lowerAscii() != \"true\"", groupFilter: groupOfNames,
			userName: "user.uid", department: "user.departmentNumber", employee: "user.employeeNumber",
		},
		{
			name: PresetGeneric, id: IDAttribute{Attribute: "entryUUID", Encoding: EncodingText},
			userFilter: inetOrgPerson, enabled: "true", groupFilter: groupOfNames,
			userName: "user.uid", department: "user.departmentNumber", employee: "user.employeeNumber",
		},
	}
}

func presetNames() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// findPreset returns the preset of this name; the empty name is openldap's.
func findPreset(name string) (preset, error) {
	for _, p := range presets() {
		if p.name == name || name == "" {
			return p, nil
		}
	}
	return preset{}, fmt.Errorf("preset %q is unknown; %s", name, choose(name, presetNames()))
}

// mapping is the preset's default mapping of users.
func (p preset) mapping() map[string]Attribute {
	const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:"
	out := map[string]Attribute{}
	for path, value := range map[string]string{
		"userName":                           p.userName,
		"name.givenName":                     "user.givenName",
		"name.familyName":                    "user.sn",
		"displayName":                        "user.?displayName.orValue(user.cn)",
		"title":                              "user.title",
		`emails[type eq "work"].value`:       "user.mail",
		`phoneNumbers[type eq "work"].value`: "user.telephoneNumber",
		enterprise + "employeeNumber":        p.employee,
		enterprise + "department":            p.department,
	} {
		out[path] = Attribute{Value: value, On: OnAlways}
	}
	return out
}
