//! The standard options: those of RFC 2132, the later ones of the IANA registry, and the private
//! codes that boot programs and Windows use.
//!
//! The table has one line for each option; some are longer than 100 columns.

use super::{Definition, Kind};

/// From one line an option: its code as a constant, and its definition.
macro_rules! options {
    ($($code:literal $constant:ident $name:literal $kind:expr $(, $alias:literal)*;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $constant: u8 = $code;
        )*

        /// All standard options, by code.
        pub static DEFINITIONS: &[Definition] = &[
            $(Definition { code: $code, name: $name, aliases: &[$($alias),*], kind: $kind }),*
        ];
    };
}

options! {
    1 SUBNET_MASK "subnet-mask" Kind::Ipv4;
    2 TIME_OFFSET "time-offset" Kind::I32;
    3 ROUTERS "routers" Kind::Ipv4List;
    4 TIME_SERVERS "time-servers" Kind::Ipv4List;
    5 IEN116_NAME_SERVERS "ien116-name-servers" Kind::Ipv4List, "name-servers";
    6 DOMAIN_NAME_SERVERS "domain-name-servers" Kind::Ipv4List;
    7 LOG_SERVERS "log-servers" Kind::Ipv4List;
    8 COOKIE_SERVERS "cookie-servers" Kind::Ipv4List;
    9 LPR_SERVERS "lpr-servers" Kind::Ipv4List;
    10 IMPRESS_SERVERS "impress-servers" Kind::Ipv4List;
    11 RESOURCE_LOCATION_SERVERS "resource-location-servers" Kind::Ipv4List;
    12 HOST_NAME "host-name" Kind::Text;
    13 BOOT_SIZE "boot-size" Kind::U16;
    14 MERIT_DUMP "merit-dump" Kind::Text;
    15 DOMAIN_NAME "domain-name" Kind::Text;
    16 SWAP_SERVER "swap-server" Kind::Ipv4;
    17 ROOT_PATH "root-path" Kind::Text;
    18 EXTENSIONS_PATH "extensions-path" Kind::Text;
    19 IP_FORWARDING "ip-forwarding" Kind::Flag;
    20 NON_LOCAL_SOURCE_ROUTING "non-local-source-routing" Kind::Flag;
    21 POLICY_FILTER "policy-filter" Kind::Ipv4PairList;
    22 MAX_DGRAM_REASSEMBLY "max-dgram-reassembly" Kind::U16;
    23 DEFAULT_IP_TTL "default-ip-ttl" Kind::U8;
    24 PATH_MTU_AGING_TIMEOUT "path-mtu-aging-timeout" Kind::U32;
    25 PATH_MTU_PLATEAU_TABLE "path-mtu-plateau-table" Kind::U16List;
    26 INTERFACE_MTU "interface-mtu" Kind::U16;
    27 ALL_SUBNETS_LOCAL "all-subnets-local" Kind::Flag;
    28 BROADCAST_ADDRESS "broadcast-address" Kind::Ipv4;
    29 PERFORM_MASK_DISCOVERY "perform-mask-discovery" Kind::Flag;
    30 MASK_SUPPLIER "mask-supplier" Kind::Flag;
    31 ROUTER_DISCOVERY "router-discovery" Kind::Flag;
    32 ROUTER_SOLICITATION_ADDRESS "router-solicitation-address" Kind::Ipv4;
    33 STATIC_ROUTES "static-routes" Kind::Ipv4PairList;
    34 TRAILER_ENCAPSULATION "trailer-encapsulation" Kind::Flag;
    35 ARP_CACHE_TIMEOUT "arp-cache-timeout" Kind::U32;
    36 IEEE802_3_ENCAPSULATION "ieee802-3-encapsulation" Kind::Flag;
    37 DEFAULT_TCP_TTL "default-tcp-ttl" Kind::U8;
    38 TCP_KEEPALIVE_INTERVAL "tcp-keepalive-interval" Kind::U32;
    39 TCP_KEEPALIVE_GARBAGE "tcp-keepalive-garbage" Kind::Flag;
    40 NIS_DOMAIN "nis-domain" Kind::Text;
    41 NIS_SERVERS "nis-servers" Kind::Ipv4List;
    42 NTP_SERVERS "ntp-servers" Kind::Ipv4List;
    43 VENDOR_ENCAPSULATED_OPTIONS "vendor-encapsulated-options" Kind::Encapsulated("PXE");
    44 NETBIOS_NAME_SERVERS "netbios-name-servers" Kind::Ipv4List;
    45 NETBIOS_DD_SERVER "netbios-dd-server" Kind::Ipv4List;
    46 NETBIOS_NODE_TYPE "netbios-node-type" Kind::U8;
    47 NETBIOS_SCOPE "netbios-scope" Kind::Text;
    48 FONT_SERVERS "font-servers" Kind::Ipv4List;
    49 X_DISPLAY_MANAGER "x-display-manager" Kind::Ipv4List;
    50 REQUESTED_ADDRESS "dhcp-requested-address" Kind::Ipv4;
    51 LEASE_TIME "dhcp-lease-time" Kind::U32;
    52 OPTION_OVERLOAD "dhcp-option-overload" Kind::U8;
    53 MESSAGE_TYPE "dhcp-message-type" Kind::U8;
    54 SERVER_IDENTIFIER "dhcp-server-identifier" Kind::Ipv4;
    55 PARAMETER_REQUEST_LIST "dhcp-parameter-request-list" Kind::U8List;
    56 MESSAGE "dhcp-message" Kind::Text;
    57 MAX_MESSAGE_SIZE "dhcp-max-message-size" Kind::U16;
    58 RENEWAL_TIME "dhcp-renewal-time" Kind::U32;
    59 REBINDING_TIME "dhcp-rebinding-time" Kind::U32;
    60 VENDOR_CLASS_IDENTIFIER "vendor-class-identifier" Kind::Text;
    61 CLIENT_IDENTIFIER "dhcp-client-identifier" Kind::Bytes;
    62 NWIP_DOMAIN "nwip-domain" Kind::Text, "nwip-domain-name";
    63 NWIP_SUBOPTIONS "nwip-suboptions" Kind::Encapsulated("nwip");
    64 NISPLUS_DOMAIN "nisplus-domain" Kind::Text, "nisplus-domain-name";
    65 NISPLUS_SERVERS "nisplus-servers" Kind::Ipv4List;
    66 TFTP_SERVER_NAME "tftp-server-name" Kind::Text;
    67 BOOTFILE_NAME "bootfile-name" Kind::Text, "boot-file-name";
    68 MOBILE_IP_HOME_AGENT "mobile-ip-home-agent" Kind::Ipv4List;
    69 SMTP_SERVER "smtp-server" Kind::Ipv4List;
    70 POP_SERVER "pop-server" Kind::Ipv4List;
    71 NNTP_SERVER "nntp-server" Kind::Ipv4List;
    72 WWW_SERVER "www-server" Kind::Ipv4List;
    73 FINGER_SERVER "finger-server" Kind::Ipv4List;
    74 IRC_SERVER "irc-server" Kind::Ipv4List;
    75 STREETTALK_SERVER "streettalk-server" Kind::Ipv4List;
    76 STREETTALK_DIRECTORY_ASSISTANCE_SERVER "streettalk-directory-assistance-server" Kind::Ipv4List;
    77 USER_CLASS "user-class" Kind::UserClass;
    78 SLP_DIRECTORY_AGENT "slp-directory-agent" Kind::Record(&[Kind::Flag, Kind::Ipv4List]);
    79 SLP_SERVICE_SCOPE "slp-service-scope" Kind::Record(&[Kind::Flag, Kind::Text]);
    80 RAPID_COMMIT "rapid-commit" Kind::Empty;
    81 CLIENT_FQDN "fqdn" Kind::ClientFqdn, "client-fqdn";
    82 RELAY_AGENT_INFORMATION "relay-agent-information" Kind::Encapsulated("agent"), "dhcp-agent-options";
    83 ISNS "isns" Kind::Bytes;
    85 NDS_SERVERS "nds-servers" Kind::Ipv4List;
    86 NDS_TREE_NAME "nds-tree-name" Kind::Text;
    87 NDS_CONTEXT "nds-context" Kind::Text;
    88 BCMS_CONTROLLER_NAMES "bcms-controller-names" Kind::DomainList { compressed: false };
    89 BCMS_CONTROLLER_ADDRESS "bcms-controller-address" Kind::Ipv4List;
    90 AUTHENTICATION "authentication" Kind::Bytes, "authenticate";
    91 CLIENT_LAST_TRANSACTION_TIME "client-last-transaction-time" Kind::U32;
    92 ASSOCIATED_IP "associated-ip" Kind::Ipv4List;
    93 PXE_SYSTEM_TYPE "pxe-system-type" Kind::U16List, "client-system";
    94 PXE_INTERFACE_ID "pxe-interface-id" Kind::Record(&[Kind::U8, Kind::U8, Kind::U8]), "client-ndi";
    95 LDAP_URL "ldap-url" Kind::Text;
    97 PXE_CLIENT_ID "pxe-client-id" Kind::Record(&[Kind::U8, Kind::Bytes]), "uuid-guid";
    98 UAP_SERVERS "uap-servers" Kind::Text;
    99 GEOCONF_CIVIC "geoconf-civic" Kind::Bytes;
    100 PCODE "pcode" Kind::Text;
    101 TCODE "tcode" Kind::Text;
    108 V6_ONLY_PREFERRED "v6-only-preferred" Kind::U32;
    109 DHCP4O6_S46_SADDR "dhcp4o6-s46-saddr" Kind::Ipv6;
    112 NETINFO_SERVER_ADDRESS "netinfo-server-address" Kind::Ipv4List;
    113 NETINFO_SERVER_TAG "netinfo-server-tag" Kind::Text;
    114 DEFAULT_URL "default-url" Kind::Text, "captive-portal";
    116 AUTO_CONFIG "auto-config" Kind::U8;
    117 NAME_SERVICE_SEARCH "name-service-search" Kind::U16List;
    118 SUBNET_SELECTION "subnet-selection" Kind::Ipv4;
    119 DOMAIN_SEARCH "domain-search" Kind::DomainList { compressed: true };
    120 SIP_SERVERS "sip-servers" Kind::SipServers;
    121 CLASSLESS_STATIC_ROUTES "classless-static-routes" Kind::ClasslessRoutes, "classless-static-route", "rfc3442-classless-static-routes";
    122 CABLELABS_CLIENT_CONFIGURATION "cablelabs-client-configuration" Kind::Bytes;
    123 GEOCONF "geoconf" Kind::Bytes;
    124 VENDOR_CLASSES "vivco" Kind::VendorClasses, "vivco-suboptions";
    125 VENDOR_OPTIONS "vivso" Kind::VendorOptions, "vivso-suboptions";
    136 PANA_AGENT "pana-agent" Kind::Ipv4List;
    137 V4_LOST "v4-lost" Kind::Domain;
    138 CAPWAP_AC_V4 "capwap-ac-v4" Kind::Ipv4List;
    139 IPV4_ADDRESS_MOS "ipv4-address-mos" Kind::Bytes;
    140 IPV4_FQDN_MOS "ipv4-fqdn-mos" Kind::Bytes;
    141 SIP_UA_CS_DOMAINS "sip-ua-cs-domains" Kind::DomainList { compressed: true };
    142 IPV4_ADDRESS_ANDSF "ipv4-address-andsf" Kind::Ipv4List;
    143 V4_SZTP_REDIRECT "v4-sztp-redirect" Kind::Bytes;
    144 GEOLOC "geoloc" Kind::Bytes;
    145 FORCERENEW_NONCE_CAPABLE "forcerenew-nonce-capable" Kind::U8List;
    146 RDNSS_SELECTION "rdnss-selection" Kind::Record(&[Kind::U8, Kind::Ipv4, Kind::Ipv4, Kind::DomainList { compressed: false }]);
    147 V4_DOTS_RI "v4-dots-ri" Kind::Domain;
    148 V4_DOTS_ADDRESS "v4-dots-address" Kind::Ipv4List;
    150 TFTP_SERVER_ADDRESS "tftp-server-address" Kind::Ipv4List;
    151 STATUS_CODE "status-code" Kind::Record(&[Kind::U8, Kind::Text]);
    152 BASE_TIME "base-time" Kind::U32;
    153 START_TIME_OF_STATE "start-time-of-state" Kind::U32;
    154 QUERY_START_TIME "query-start-time" Kind::U32;
    155 QUERY_END_TIME "query-end-time" Kind::U32;
    156 DHCP_STATE "dhcp-state" Kind::U8;
    157 DATA_SOURCE "data-source" Kind::U8;
    158 V4_PCP_SERVER "v4-pcp-server" Kind::Bytes;
    159 V4_PORTPARAMS "v4-portparams" Kind::Record(&[Kind::U8, Kind::U8, Kind::U16]);
    160 V4_CAPTIVE_PORTAL "v4-captive-portal" Kind::Text;
    161 MUD_URL "mud-url" Kind::Text;
    162 V4_DNR "v4-dnr" Kind::Bytes;
    175 IPXE "ipxe-encap-opts" Kind::Encapsulated("ipxe"), "ipxe-encapsulated-options";
    208 PXELINUX_MAGIC "pxelinux-magic" Kind::Bytes;
    209 LOADER_CONFIGFILE "loader-configfile" Kind::Text, "config-file";
    210 LOADER_PATHPREFIX "loader-pathprefix" Kind::Text, "path-prefix";
    211 LOADER_REBOOTTIME "loader-reboottime" Kind::U32, "reboot-time";
    212 SIX_RD "option-6rd" Kind::Record(&[Kind::U8, Kind::U8, Kind::Ipv6, Kind::Ipv4List]);
    213 V4_ACCESS_DOMAIN "v4-access-domain" Kind::Domain;
    220 SUBNET_ALLOCATION "subnet-allocation" Kind::Bytes;
    221 VIRTUAL_SUBNET_SELECTION "virtual-subnet-selection" Kind::Bytes;
    249 MS_CLASSLESS_STATIC_ROUTES "ms-classless-static-routes" Kind::ClasslessRoutes, "ms-classless-static-route";
    252 WPAD_URL "wpad-url" Kind::Text, "wpad";
}
