BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'skipsearch');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["validation_accuracy"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'schema','3');
INSERT INTO "study_user_attributes" VALUES(2,1,'plan','"f228a18b8a1c3dafe46474d15ba26a58d0579acd873eafb9e2c84813b879bc16"');
INSERT INTO "study_user_attributes" VALUES(3,1,'kind','"study"');
INSERT INTO "study_user_attributes" VALUES(4,1,'asked','20');
INSERT INTO "study_user_attributes" VALUES(5,1,'config','{"epochs": 9, "lr": 0.15, "batch_size": 16, "weight_decay": 0.0001, "lr_drops": null, "layers": 10, "blocks": 1, "growth": 4, "bottleneck": false, "transition": "log", "stem_channels": null, "compression": null, "block_layers": null, "large_stem": false, "budget": "total:26", "dataset": "digits", "data": null, "trials": 1, "seeds": 2, "train_examples": 64, "validation_examples": null, "strategy": "random", "lookahead": 4, "templates": true, "pattern": null, "workers": 1, "attempts": 3, "trial_timeout": null, "checkpoint_seconds": 10.0, "halving": false, "deterministic": false, "gpus_per_worker": null, "ray_address": null, "cohort": 1, "memory_efficient": false, "engine": "fused", "precision": "float32", "device": "cpu", "seed": 0, "also_layers": [], "cross": "from_output,span", "mean_bd_bins": "1.3:2.5:2", "span_bins": "2.8:3.8:1", "per_cell": 1, "optima": 0, "regime": ["gentle=lr:0.05,epochs:1", "steep=lr:0.2,epochs:1"], "check_epochs": null, "check_patterns": 12}');
INSERT INTO "study_user_attributes" VALUES(6,1,'environment','{"device": "x86_64 CPU, one thread a worker, fused layers", "python": "3.11.7", "torch": "2.13.0+cpu", "optuna": "5.0.0", "numpy": "2.4.6", "skipsearch": "0.1.0", "commit": "115110e30a13", "schema": "3"}');
INSERT INTO "study_user_attributes" VALUES(7,1,'data','{"name": "digits", "classes": 10, "image": [1, 8, 8], "n_train": 64, "n_validation": 479, "sha256": "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"}');
INSERT INTO "study_user_attributes" VALUES(8,1,'largest_class','0.1022964509394572');
INSERT INTO "study_user_attributes" VALUES(9,1,'sha256','{"data": "caa01fff14304ef3236c65b5b42b10cbc380f3663005b2e97410b84e9331aeeb", "kind": "9b9587ced7b57209d3c5605cce20d773af71e5cb3dcc4cf2b2e1776b16ca24c1", "config": "805bc112238afe88518b1f33caeeaca8333c6e4ac16945e16f0522921474b3c2", "asked": "f5ca38f748a1d6eaf726b8a42fb575c3c71f1864a8143301782de13da2d9202b", "environment": "78f2eebd446a9e406de75d962840d5dc26b27abd62662fbc819f06cea2d2be30", "largest_class": "65b623f560336f2ad14d06a70ebe45fdc679c17c4abfc287386759332a941ca9", "plan": "de287cc61b76fb57d14992ef47fe94e1757d527e8ae20a1aff59b93c1a3cc66d", "schema": "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"}');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'mean_bd',1.61818181818181816566e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(2,1,'span',3.26923076923076916244e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(3,1,'stratum',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["10 layers, gentle", "10 layers, steep"]}}');
INSERT INTO "trial_params" VALUES(4,2,'mean_bd',1.61818181818181816566e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(5,2,'span',3.26923076923076916244e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(6,2,'stratum',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["10 layers, gentle", "10 layers, steep"]}}');
INSERT INTO "trial_params" VALUES(7,3,'mean_bd',1.65454545454545454141e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(8,3,'span',3.19230769230769251265e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(9,3,'stratum',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["10 layers, gentle", "10 layers, steep"]}}');
INSERT INTO "trial_params" VALUES(10,4,'mean_bd',1.61818181818181816566e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(11,4,'span',3.26923076923076916244e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(12,4,'stratum',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["10 layers, gentle", "10 layers, steep"]}}');
INSERT INTO "trial_params" VALUES(13,5,'mean_bd',1.56363636363636371306e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(14,5,'span',3.26923076923076916244e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(15,5,'stratum',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["10 layers, gentle", "10 layers, steep"]}}');
INSERT INTO "trial_params" VALUES(16,6,'mean_bd',1.56363636363636371306e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(17,6,'span',3.26923076923076916244e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(18,6,'stratum',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["10 layers, gentle", "10 layers, steep"]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'candidate','{"key": "c6922c2d8439836d35d968980c472ee3e5c60ad2857e4da7e1d7a179592c6240", "max_bd": 3, "params": 4190, "flops": 484160, "nn_mass": 14.222222222222223, "distance_bin": 1, "span_bin": 0, "matched": null, "regime": "gentle", "template": null, "strategy": "design", "seed": 0, "budget": "total:26", "sources": [[0], [0, 1], [2], [3], [0, 2, 4], [0, 1, 3, 5], [1, 3, 6], [0, 3, 5, 7], [4, 5, 7, 8], [1, 5, 9]], "sha256": "95626c074d10b4d82d3d116b7354296e7a9f5d84d2de3392cfcc5cd8cbb9f3ba"}');
INSERT INTO "trial_user_attributes" VALUES(2,1,'outcome','{"validation_loss": 0.6071673583984375, "epochs": 1, "seconds": 0.0, "curve": [], "error": null, "paused": false, "resumed_epoch": 0, "checkpoint_error": null, "strengths": [], "sha256": "9cd3b59cd76cf8ebd28ed0d7c9826e1ded62bf590ae9b46856f0bd098977e07f"}');
INSERT INTO "trial_user_attributes" VALUES(3,2,'candidate','{"key": "c78e3de1c93ba17b31ea5b1e054520113e5b0854e62dc31ba8bee42f32d8baa5", "max_bd": 3, "params": 4190, "flops": 484160, "nn_mass": 14.222222222222223, "distance_bin": null, "span_bin": null, "matched": "c6922c2d8439836d35d968980c472ee3e5c60ad2857e4da7e1d7a179592c6240", "regime": "gentle", "template": null, "strategy": "reversal", "seed": 0, "budget": "total:26", "sources": [[0], [1], [1, 2], [3], [0, 1, 2, 4], [1, 5], [2, 3, 4, 6], [5, 7], [0, 3, 4, 8], [2, 4, 5, 8, 9]], "sha256": "96a56bfcee91fcc2ffa043e7e5726af342ad0fb6a085eb4b60cd3fd870b97f45"}');
INSERT INTO "trial_user_attributes" VALUES(4,2,'outcome','{"validation_loss": 0.6052447509765625, "epochs": 1, "seconds": 0.0, "curve": [], "error": null, "paused": false, "resumed_epoch": 0, "checkpoint_error": null, "strengths": [], "sha256": "14d1bfc441e04f4ebdd30106dd5ab1bcc4d62733925a2edc57f92df4342ddb11"}');
INSERT INTO "trial_user_attributes" VALUES(5,3,'candidate','{"key": "7cd9d6c69a926c69c6366244eae8152fdfcaecc6635170d75a832866281910a8", "max_bd": 3, "params": 4190, "flops": 484160, "nn_mass": 14.222222222222223, "distance_bin": null, "span_bin": null, "matched": null, "regime": "gentle", "template": null, "strategy": "random", "seed": 0, "budget": "total:26", "sources": [[0], [0, 1], [0, 2], [0, 3], [2, 4], [0, 1, 2, 4, 5], [2, 4, 6], [2, 6, 7], [4, 8], [0, 2, 5, 9]], "sha256": "b15e218f919932305f2caf28a00543c5685362cbb6f122c4e061aab80a5ff2b9"}');
INSERT INTO "trial_user_attributes" VALUES(6,3,'outcome','{"validation_loss": 0.7511569213867187, "epochs": 1, "seconds": 0.0, "curve": [], "error": null, "paused": false, "resumed_epoch": 0, "checkpoint_error": null, "strengths": [], "sha256": "9918703556c64f2147703e533b3b5f60548dd82e2527fb4be6c7db0c70a722a4"}');
INSERT INTO "trial_user_attributes" VALUES(7,4,'candidate','{"key": "c78e3de1c93ba17b31ea5b1e054520113e5b0854e62dc31ba8bee42f32d8baa5", "max_bd": 3, "params": 4190, "flops": 484160, "nn_mass": 14.222222222222223, "distance_bin": null, "span_bin": null, "matched": "c6922c2d8439836d35d968980c472ee3e5c60ad2857e4da7e1d7a179592c6240", "regime": "steep", "template": null, "strategy": "reversal", "seed": 0, "budget": "total:26", "sources": [[0], [1], [1, 2], [3], [0, 1, 2, 4], [1, 5], [2, 3, 4, 6], [5, 7], [0, 3, 4, 8], [2, 4, 5, 8, 9]], "sha256": "a7e63692a770fce7eadf0877ec0162a4e3cbf1b9fd230d533303aab481f91fd4"}');
INSERT INTO "trial_user_attributes" VALUES(8,4,'outcome','{"validation_loss": 0.5902447509765625, "epochs": 1, "seconds": 0.0, "curve": [], "error": null, "paused": false, "resumed_epoch": 0, "checkpoint_error": null, "strengths": [], "sha256": "85ff50138745583e6732b693d1ecab7a4f179d3cd2652b7e5ddbf93f47bc417f"}');
INSERT INTO "trial_user_attributes" VALUES(9,5,'candidate','{"key": "f8bca3bb0252d017091311f0a423151ae08cbcdb054d52bbe3c858ace6c430ae", "max_bd": 3, "params": 4190, "flops": 484160, "nn_mass": 14.222222222222223, "distance_bin": 0, "span_bin": 0, "matched": null, "regime": "gentle", "template": null, "strategy": "design", "seed": 0, "budget": "total:26", "sources": [[0], [1], [0, 2], [3], [0, 1, 2, 4], [5], [4, 5, 6], [0, 1, 2, 3, 4, 7], [6, 8], [1, 3, 6, 8, 9]], "sha256": "2acf7e9144dc36cc7e659d6e25080e935b7e204bd06d2c3db5a3c022a2dcd611"}');
INSERT INTO "trial_user_attributes" VALUES(10,5,'outcome','{"validation_loss": 0.509190673828125, "epochs": 1, "seconds": 0.0, "curve": [], "error": null, "paused": false, "resumed_epoch": 0, "checkpoint_error": null, "strengths": [], "sha256": "709acf7c838aaf73fed6fb2809260437e4b5cd115476228a910aefc46fc81345"}');
INSERT INTO "trial_user_attributes" VALUES(11,6,'candidate','{"key": "40fd778509f84d34637228b1bfb4ba6c16f12c2d6dd7d4f485c2d1baa12a36b1", "max_bd": 3, "params": 4190, "flops": 484160, "nn_mass": 14.222222222222223, "distance_bin": null, "span_bin": null, "matched": "f8bca3bb0252d017091311f0a423151ae08cbcdb054d52bbe3c858ace6c430ae", "regime": "steep", "template": null, "strategy": "reversal", "seed": 0, "budget": "total:26", "sources": [[0], [0, 1], [2], [0, 1, 3], [3, 4], [2, 3, 5], [0, 2, 6], [2, 5, 7], [0, 2, 5, 8], [2, 5, 7, 9]], "sha256": "1fee59cf333c78d45130684deaa26a26b3802def230a3967aff83d9153db623a"}');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,3.9283264160156250444e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,3.9475524902343750444e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,2.4884307861328125444e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,4.09755249023437517763e-01,'FINITE');
INSERT INTO "trial_values" VALUES(5,5,0,0.490809326171875,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-29 01:02:36.505420','2026-11-29 01:02:36.585672');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-29 01:02:36.613432','2026-11-29 01:02:36.655861');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-29 01:02:36.691131','2026-11-29 01:02:36.756017');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-29 01:02:36.797215','2026-11-29 01:02:36.855870');
INSERT INTO "trials" VALUES(5,4,1,'COMPLETE','2026-11-29 01:02:36.893522','2026-11-29 01:02:36.932045');
INSERT INTO "trials" VALUES(6,5,1,'RUNNING','2026-11-29 01:02:36.946593',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
