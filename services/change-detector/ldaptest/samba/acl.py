"""Puts an access control entry before the others of directory objects, or takes
it away: acl.py SMB.CONF add|remove TRUSTEE ACE, with the objects' DNs on standard
input. SID in the entry stands for the trustee's."""

import sys

from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
from samba.sd_utils import SDUtils

conf, action, trustee, ace = sys.argv[1:]
lp = LoadParm()
lp.load(conf)
db = SamDB(lp=lp, session_info=system_session(lp))
descriptors = SDUtils(db)
ace = ace.replace("SID", str(descriptors.get_object_sid(trustee)))
controls = ["show_deleted:1", "sd_flags:1:4"]  # tombstones too; only the list of entries
for dn in sys.stdin.read().splitlines():
    old = descriptors.read_sd_on_dn(dn, controls).as_sddl(descriptors.domain_sid)
    new = old.replace("(", ace + "(", 1) if action == "add" else old.replace(ace, "", 1)
    if new == old:
        sys.exit(f"{dn} has no entry {ace}: {old}")
    descriptors.modify_sd_on_dn(dn, new, controls)
