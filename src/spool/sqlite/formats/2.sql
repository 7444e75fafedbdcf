-- A dump of a spool that the program of November 2026 wrote (format 2). One message is delivered. Four
-- messages wait for a server that an operator has put on hold; one of the four is held by hand, and another
-- has its content in a file.
BEGIN TRANSACTION;
CREATE TABLE message (
        id      INTEGER PRIMARY KEY,
        lane    TEXT    NOT NULL,
        flow    TEXT    NOT NULL,
        due     INTEGER NOT NULL,
        state   INTEGER NOT NULL,
        record  TEXT    NOT NULL,
        content BLOB
    );
INSERT INTO "message" VALUES(1882919018484918197,'n0','nerp',1795691507801,0,'{"id":"1m8brvw2sxsxn","received":1795691507801,"origin":{"client":{"user":"erp","listener":"127.0.0.1:34295","peer":"127.0.0.1","helo":"[127.0.0.1]","protocol":"ESMTPA"}},"envelope":{"sender":"notifications@example.com","parameters":"size=59 ENVID=QQ314159","recipients":[{"address":"one@example.net","parameters":"NOTIFY=FAILURE,DELAY"},{"address":"two@example.net","parameters":"NOTIFY=FAILURE,DELAY"}]},"size":59,"sum":3299049991,"lane":"n0","priority":"normal","state":"queued","due":1795691507801,"attempts":0}',X'46726F6D3A206E6F74696669636174696F6E73406578616D706C652E636F6D0D0A5375626A6563743A2077616974730D0A0D0A48656C6C6F2E0D0A');
INSERT INTO "message" VALUES(1882919018485742183,'n0','berp',1795691507802,0,'{"id":"1m8brvw2tpyk7","received":1795691507802,"origin":{"client":{"user":"erp","listener":"127.0.0.1:34295","peer":"127.0.0.1","helo":"[127.0.0.1]","protocol":"ESMTPA"}},"envelope":{"sender":"notifications@example.com","parameters":"size=83","recipients":[{"address":"bulk@example.net"}]},"size":83,"sum":1408622889,"lane":"n0","priority":"bulk","state":"queued","due":1795691507802,"attempts":0}',X'46726F6D3A206E6F74696669636174696F6E73406578616D706C652E636F6D0D0A5375626A6563743A2077616974732C2062756C6B0D0A507265636564656E63653A2062756C6B0D0A0D0A48656C6C6F2E0D0A');
INSERT INTO "message" VALUES(1882919018491333861,'n0','nerp',1795691507815,0,'{"id":"1m8brvw301k75","received":1795691507815,"origin":{"client":{"user":"erp","listener":"127.0.0.1:34295","peer":"127.0.0.1","helo":"[127.0.0.1]","protocol":"ESMTPA"}},"envelope":{"sender":"notifications@example.com","parameters":"size=144123","recipients":[{"address":"large@example.net"}]},"size":144123,"sum":1311282369,"lane":"n0","priority":"normal","state":"queued","due":1795691507815,"attempts":0}',NULL);
INSERT INTO "message" VALUES(1882919018508926642,'n0','nerp',1795691507824,1,'{"id":"1m8brvw3gtfnj","received":1795691507824,"origin":{"client":{"user":"erp","listener":"127.0.0.1:34295","peer":"127.0.0.1","helo":"[127.0.0.1]","protocol":"ESMTPA"}},"envelope":{"sender":"notifications@example.com","parameters":"size=66","recipients":[{"address":"held@example.net"}]},"size":66,"sum":2250122359,"lane":"n0","priority":"normal","state":"held","due":1795691507824,"attempts":0,"last":"by hand"}',X'46726F6D3A206E6F74696669636174696F6E73406578616D706C652E636F6D0D0A5375626A6563743A2068656C642062792068616E640D0A0D0A48656C6C6F2E0D0A');
CREATE TABLE note (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "note" VALUES('clock/seen','1795691506751');
INSERT INTO "note" VALUES('hold/notifications@example.com at Exchange Online','{"since":1795691507798,"until":null,"reason":"month end"}');
CREATE TABLE story (
        id     INTEGER PRIMARY KEY,
        ended  INTEGER,
        record TEXT NOT NULL,
        events TEXT NOT NULL
    );
INSERT INTO "story" VALUES(1882919017411408890,1795691506823,'{"id":"1m8brvv2t4wzt","received":1795691506778,"origin":{"client":{"user":"erp","listener":"127.0.0.1:34295","peer":"127.0.0.1","helo":"[127.0.0.1]","protocol":"ESMTPA"}},"envelope":{"sender":"notifications@example.com","parameters":"size=70","recipients":[{"address":"done@example.net"}]},"size":70,"sum":1813866471,"lane":"n0","priority":"normal","state":"queued","due":1795691506778,"attempts":0}','{"at":1795691506823,"event":"delivered","server":"n0","to":["done@example.net"],"reply":"250 2.0.0 OK <1m8brvv2t4wzt@relay.example.com> [Hostname=SANDBOX.PROD.OUTLOOK.COM]","message_id":"<1m8brvv2t4wzt@relay.example.com>"}');
INSERT INTO "story" VALUES(1882919018508926642,NULL,'{"id":"1m8brvw3gtfnj","received":1795691507824,"origin":{"client":{"user":"erp","listener":"127.0.0.1:34295","peer":"127.0.0.1","helo":"[127.0.0.1]","protocol":"ESMTPA"}},"envelope":{"sender":"notifications@example.com","parameters":"size=66","recipients":[{"address":"held@example.net"}]},"size":66,"sum":2250122359,"lane":"n0","priority":"normal","state":"queued","due":1795691507824,"attempts":0}','{"at":1795691508350,"event":"held","reason":"by hand"}');
CREATE TABLE used (
        mailbox    TEXT    NOT NULL,
        began      INTEGER NOT NULL,
        last       INTEGER NOT NULL,
        messages   INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        PRIMARY KEY (mailbox, began)
    ) WITHOUT ROWID;
INSERT INTO "used" VALUES('notifications@example.com at Exchange Online',1795691400000,1795691506823,1,1);
CREATE INDEX message_due ON message (lane, flow, due) WHERE state = 0;
COMMIT;
PRAGMA user_version = 2;
