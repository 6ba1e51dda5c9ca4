package main

// change is one event of the morning.
type change struct {
	at, text string
	ldif     string
	leaves   string // userName of who keeps a disabled account from now on
	returns  string // userName of who comes back
}

// morning is the story, in order.
func morning(c *company) []change {
	var (
		anna, tomas, grace, paul = c.person("anna.baer"), c.person("tomas.novak"), c.person("grace.obrien"), c.person("paul.meyer")
		ines, lena, bob, olena   = c.person("ines.garcia"), c.person("lena.vogel"), c.person("bob.oneil"), c.person("olena.kovalenko")
	)
	maya := &person{name: name{"Maya", "Şahin", "maya.sahin"}, department: "Support", title: "Support Agent", number: "10901"}
	emile := &person{name: name{"Émile", "D'Arcy", "emile.darcy"}, department: "Product", title: "Designer", number: "10902"}
	married := &person{name: name{"Anna", "Lindqvist", "anna.lindqvist"}}
	party := &group{cn: "Summer Party 🎉", members: []string{married.dn(), tomas.dn(), bob.dn()}}
	return []change{
		{at: "08:30", text: "Hire: Émile D'Arcy", ldif: emile.record()},
		{at: "08:34", text: "Hire: Maya Şahin, at once in Support", ldif: maya.record() + modify(c.group("Support").dn(), add("member", maya.dn()))},
		{at: "08:41", text: `Promotion: O'Neil, "Bob" heads Finance`, ldif: modify(bob.dn(), replace("title", "Head of Finance"))},
		{at: "09:02", text: "Marriage: Anna Bär becomes Anna Lindqvist", ldif: modify(anna.dn(),
			replace("sn", married.family), replace("cn", married.cn()), replace("mail", married.mail()))},
		{at: "09:03", text: "Marriage: her account is renamed, too", ldif: rename(anna.dn(), "uid="+married.uid)},
		{at: "09:10", text: "Transfer: Tomáš Novák, Support to Sales", ldif: modify(tomas.dn(), replace("departmentNumber", "Sales"), replace("title", "Account Executive")) +
			modify(c.group("Support").dn(), drop("member", tomas.dn())) + modify(c.group("Sales").dn(), add("member", tomas.dn()))},
		{at: "09:25", text: "Cleared: Grace O'Brien has no title", ldif: modify(grace.dn(), drop("title"))},
		{at: "09:40", text: "Nested: Olena joins Backend, in Engineering", ldif: modify(c.group(backend).dn(), add("member", olena.dn()))},
		{at: "09:48", text: "New group: Summer Party", ldif: party.record()},
		{at: "10:05", text: "Group renamed: People & Culture", ldif: rename(c.group("People & Culture").dn(), "cn=People Team")},
		{at: "10:15", text: "Leave: Paul Meyer is disabled", ldif: modify(paul.dn(), replace("employeeType", "left")), leaves: paul.uid},
		{at: "10:20", text: "Deleted: Inês García", ldif: remove(ines.dn()), leaves: ines.uid},
		{at: "10:32", text: "Group deleted: First aiders", ldif: remove(c.group(aiders).dn())},
		{at: "10:45", text: "Return: Paul Meyer, after all", ldif: modify(paul.dn(), replace("employeeType", "staff")), returns: paul.uid},
		{at: "10:50", text: "Return: Lena Vogel, who had left before", ldif: modify(lena.dn(), replace("employeeType", "staff"))},
		{at: "11:05", text: "Return: Inês García, with a new entry", ldif: ines.record() + modify(c.group(office).dn(), add("member", ines.dn())), returns: ines.uid},
		{at: "11:15", text: "Nested: Platform leaves Engineering", ldif: modify(c.group("Engineering").dn(), drop("member", c.group(platform).dn()))},
		{at: "11:30", text: "Reorganisation: Marketing becomes Brand", ldif: reorganisation(c)},
	}
}

// reorganisation gives a whole department a new name.
func reorganisation(c *company) (ldif string) {
	for _, p := range c.people {
		if p.department == "Marketing" && !p.left {
			ldif += modify(p.dn(), replace("departmentNumber", "Brand"))
		}
	}
	return ldif
}
