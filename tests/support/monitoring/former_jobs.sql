-- Made by the code of fb5798e, from its own tests' loop: a database before a job's result had a type.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE decisions (
	id INTEGER NOT NULL, 
	model VARCHAR(100) NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	details TEXT NOT NULL, 
	time DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "decisions" VALUES(2,'doubling','promoted','{"job":1,"from":"1.0","to":"1.1","reason":"its RMSE is lower","who":"judge"}','2013-02-17 12:00:00.000000');
INSERT INTO "decisions" VALUES(3,'doubling','rolled_back','{"job":1,"from":"1.1","to":"1.0","reason":"on its 19 newest labelled rows 1.0 would err 50% less, 40% at least (1 instead of 2)","who":"watch"}','2013-02-17 13:00:00.000000');
INSERT INTO "decisions" VALUES(5,'doubling','refused','{"job":2,"version":"1.2","stage":"judge","reason":"its RMSE is no lower"}','2013-02-19 13:00:00.000000');
INSERT INTO "decisions" VALUES(7,'doubling','promoted','{"job":3,"from":"1.0","to":"1.3","reason":"its RMSE is lower","who":"judge"}','2013-02-19 13:00:00.000000');
INSERT INTO "decisions" VALUES(9,'doubling','failed','{"job":4,"stage":"train","reason":"the training ended: none of its rows fits"}','2013-02-19 13:00:00.000000');
INSERT INTO "decisions" VALUES(11,'doubling','cancelled','{"job":5,"stage":null}','2013-02-19 13:00:00.000000');
CREATE TABLE "feedback" (
	request_id VARCHAR(200) NOT NULL, 
	"row" INTEGER NOT NULL, 
	model VARCHAR(100) NOT NULL, 
	label TEXT NOT NULL, 
	time DATETIME NOT NULL, 
	CONSTRAINT feedback_by_request_id_row_model PRIMARY KEY (request_id, "row", model)
);
CREATE TABLE jobs (
	id INTEGER NOT NULL, 
	model VARCHAR(100) NOT NULL, 
	"trigger" VARCHAR(20) NOT NULL, 
	reason TEXT NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	created DATETIME NOT NULL, 
	started DATETIME, 
	ended DATETIME, 
	pid INTEGER, 
	progress TEXT NOT NULL, 
	log TEXT NOT NULL, 
	result TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES(1,'doubling','hand','a test','rolled_back','2013-02-17 12:00:00.000000','2013-02-17 12:00:00.000000','2013-02-17 12:00:00.000000',NULL,'rolled back: on its 19 newest labelled rows 1.0 would err 50% less, 40% at least (1 instead of 2)','/runs/train-1.log','{"stage":"promote","attempts":1,"rows":20,"rows_until":"2013-02-17T12:00:00+00:00","version":"1.1","held_out_since":"2013-02-17T09:00:00+00:00","champion":"1.0","verdict":{"promote":true,"reason":"its RMSE is lower","checks":[{"name":"gain","passed":true,"detail":"its RMSE is lower"}],"metric":"rmse","champion":2.0,"challenger":1.0,"gain_low":0.1,"gain_high":0.9,"rows":4},"shadow":{"requests":20,"rows":20,"errors":0,"agreement":1.0,"champion_ms":4.0,"challenger_ms":4.0,"champion_p95_ms":6.0,"challenger_p95_ms":6.0,"passed":true,"reason":"as good"},"watch":{"former":"1.0","former_ms":4.0,"label_delay_seconds":0.0,"since":"2013-02-17T12:00:00+00:00","until":"2013-02-18T12:00:00+00:00","closes":"2013-02-18T12:00:00+00:00","open":false,"closed":"2013-02-17T13:00:00+00:00","reason":"on its 19 newest labelled rows 1.0 would err 50% less, 40% at least (1 instead of 2)"}}');
INSERT INTO "jobs" VALUES(2,'doubling','hand','a test','refused','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000',NULL,'refused: its RMSE is no lower','/runs/train-2.log','{"stage":"judge","attempts":1,"rows":59,"rows_until":"2013-02-19T12:57:00+00:00","version":"1.2","held_out_since":"2013-02-17T09:00:00+00:00","champion":"1.0","verdict":{"promote":false,"reason":"its RMSE is no lower","checks":[{"name":"gain","passed":false,"detail":"its RMSE is no lower"}],"metric":"rmse","champion":2.0,"challenger":1.0,"gain_low":0.1,"gain_high":0.9,"rows":43}}');
INSERT INTO "jobs" VALUES(3,'doubling','hand','a test','promoted','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000',NULL,'promoted: its RMSE is lower','/runs/train-3.log','{"stage":"promote","attempts":1,"rows":59,"rows_until":"2013-02-19T12:57:00+00:00","version":"1.3","held_out_since":"2013-02-17T09:00:00+00:00","champion":"1.0","verdict":{"promote":true,"reason":"its RMSE is lower","checks":[{"name":"gain","passed":true,"detail":"its RMSE is lower"}],"metric":"rmse","champion":2.0,"challenger":1.0,"gain_low":0.1,"gain_high":0.9,"rows":43},"shadow":{"passed":true,"requests":0,"reason":"no requests to send"},"watch":{"former":"1.0","former_ms":4.0,"label_delay_seconds":0.0,"since":"2013-02-19T13:00:00+00:00","until":"2013-02-20T13:00:00+00:00","closes":"2013-02-20T13:00:00+00:00","open":false,"closed":"2013-02-19T13:00:00+00:00","reason":"1.2 was promoted"}}');
INSERT INTO "jobs" VALUES(4,'doubling','hand','a test','failed','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000',NULL,'failed: the training ended: none of its rows fits','/runs/train-4.log','{"stage":"train","attempts":1,"rows":59,"rows_until":"2013-02-19T12:57:00+00:00","error":"the training ended: none of its rows fits"}');
INSERT INTO "jobs" VALUES(5,'doubling','hand','a test','cancelled','2013-02-19 13:00:00.000000',NULL,'2013-02-19 13:00:00.000000',NULL,'cancelled by hand','','{"cancel":true}');
INSERT INTO "jobs" VALUES(6,'doubling','hand','a test','running','2013-02-19 13:00:00.000000','2013-02-19 13:00:00.000000',NULL,NULL,'judging 1.4','/runs/train-6.log','{"stage":"judge","attempts":1,"rows":59,"rows_until":"2013-02-19T12:57:00+00:00","version":"1.4","held_out_since":"2013-02-17T09:00:00+00:00","champion":"1.3","verdict":null,"shadow":null}');
CREATE TABLE leases (
	name VARCHAR(40) NOT NULL, 
	owner VARCHAR(100) NOT NULL, 
	expires DATETIME NOT NULL, 
	fence INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE "predictions" (
	request_id VARCHAR(200) NOT NULL, 
	"row" INTEGER NOT NULL, 
	model VARCHAR(100) NOT NULL, 
	version VARCHAR(100) NOT NULL, 
	time DATETIME NOT NULL, 
	features TEXT NOT NULL, 
	output TEXT NOT NULL, 
	CONSTRAINT predictions_by_request_id_row_model PRIMARY KEY (request_id, "row", model)
);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_decisions_model ON decisions (model);
CREATE INDEX predictions_by_time ON predictions (model, time);
COMMIT;
